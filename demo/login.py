"""What asks for a key before the page is shown: plain HTML, since Gradio is not imported for someone who has none."""

from __future__ import annotations

from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>BentoLens</title>
<style>
  :root { color-scheme: light dark; }
  body { font-family: system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid; place-items: center;
         background: light-dark(#f8fafc, #0f172a); color: light-dark(#0f172a, #e2e8f0); }
  form { box-sizing: border-box; width: min(26rem, 100vw - 2rem); padding: 2rem; border-radius: 0.75rem;
         background: light-dark(#fff, #1e293b); box-shadow: 0 1px 6px #0003; }
  h1 { margin: 0 0 0.3rem; font-size: 1.5rem; }
  p { margin: 0 0 1.2rem; color: light-dark(#475569, #94a3b8); }
  p[role=alert] { color: light-dark(#b91c1c, #fca5a5); }
  label { display: block; margin-bottom: 0.3rem; font-weight: 600; }
  input, button { box-sizing: border-box; width: 100%; padding: 0.7rem; font: inherit; border-radius: 0.5rem; }
  input { border: 1px solid #94a3b8; margin-bottom: 1rem; background: transparent; color: inherit; }
  button { border: 0; background: #0f766e; color: #fff; font-weight: 600; cursor: pointer; }
</style>
</head>
<body>
<form method="post" action="sign-in">
  <h1>BentoLens</h1>
  <p>Find the pictures that look like yours. This page needs an API key.</p>
  {{fault}}
  <label for="key">API key</label>
  <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
  <button>Open the page</button>
</form>
</body>
</html>
"""


def sign_in_page(fault: str | None = None) -> str:
    """Return the form that asks for an API key, and above it what was wrong with the one before."""
    return _PAGE.replace("{{fault}}", f'<p role="alert">{escape(fault)}</p>' if fault else "")
