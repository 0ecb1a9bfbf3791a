"""What BentoLens is compared with: services that one would write otherwise."""
