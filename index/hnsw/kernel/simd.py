"""What the kernel says in vectors itself, since loops over two arrays that may overlap are not made into them by LLVM.

Each is plain LLVM IR over vectors of 64 bytes, which LLVM splits where registers are narrower, and for which it takes the
instructions that the CPU's family has: VPOPCNTQ and VPDPBUSD on those since Ice Lake and Zen 4.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from index.hnsw.kernel.types import LANES, PLANES

BYTE, WORD32, WORD64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
BYTES, SUMS, WORDS = ir.VectorType(BYTE, 64), ir.VectorType(WORD32, 16), ir.VectorType(WORD64, 8)
FLOATS = ir.VectorType(ir.FloatType(), LANES)


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _load(builder: Any, data: Any, place: Any, kind: Any, align: int) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [place]), kind.as_pointer()), align=align)


def _sum_of(builder: Any, vector: Any) -> Any:
    """Return the sum of a vector's integers."""
    element, count = vector.type.element, vector.type.count
    name = f"llvm.vector.reduce.add.v{count}i{element.width}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(element, [vector.type]), name)
    return builder.call(function, [vector])


@intrinsic
def mix(_, row, first, second):  # type: ignore[no-untyped-def]
    """Replace LANES float32 of a row at two places by their sums and differences."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = _data(context, builder, signature.args[0], arguments[0])
        one, two = (_load(builder, data, place, FLOATS, 4) for place in arguments[1:])
        for place, value in zip(arguments[1:], (builder.fadd(one, two), builder.fsub(one, two)), strict=True):
            builder.store(value, builder.bitcast(builder.gep(data, [place]), FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(row, types.int64, types.int64), generate


@intrinsic
def as_float(_, bits):  # type: ignore[no-untyped-def]
    """Return the float32 that an int32's bits are."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def as_bits(_, number):  # type: ignore[no-untyped-def]
    """Return the bits of a float32 as int32."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], WORD32)

    return types.int32(types.float32), generate


@intrinsic
def common_bits(_, planes, row):  # type: ignore[no-untyped-def]
    """Return the bits that a row, uint64 [n], has in common with planes, uint64 [PLANES · n], plane j counted 2^j times.

    n is a multiple of 8.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kept, words = (_data(context, builder, *pair) for pair in zip(signature.args, arguments, strict=True))
        count = cgutils.unpack_tuple(builder, context.make_array(row)(context, builder, arguments[1]).shape, 1)[0]
        kind = ir.FunctionType(WORDS, [WORDS])
        count_bits = cgutils.get_or_insert_function(builder.module, kind, "llvm.ctpop.v8i64")
        total = cgutils.alloca_once_value(builder, ir.Constant(WORDS, [0] * 8))
        with cgutils.for_range_slice(builder, WORD64(0), count, WORD64(8), WORD64) as (at, _):
            bits, some = _load(builder, words, at, WORDS, 8), builder.load(total)
            for plane in range(PLANES):
                place = builder.add(builder.mul(count, WORD64(plane)), at)
                both = builder.call(count_bits, [builder.and_(bits, _load(builder, kept, place, WORDS, 8))])
                some = builder.add(some, builder.shl(both, ir.Constant(WORDS, [plane] * 8)))
            builder.store(some, total)
        return _sum_of(builder, builder.load(total))

    return types.int64(planes, row), generate


@intrinsic
def dot_bytes(_, query, row):  # type: ignore[no-untyped-def]
    """Return the sum of products of int8 [n] with uint8 [n], as int32; n is a multiple of 64, and at most 65,536."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        ours, theirs = (_data(context, builder, *pair) for pair in zip(signature.args, arguments, strict=True))
        count = cgutils.unpack_tuple(builder, context.make_array(query)(context, builder, arguments[0]).shape, 1)[0]
        total = cgutils.alloca_once_value(builder, ir.Constant(SUMS, [0] * 16))
        kind, name = ir.FunctionType(SUMS, [SUMS, BYTES, BYTES]), "llvm.x86.avx512.vpdpbusd.512"
        add_products = cgutils.get_or_insert_function(builder.module, kind, name)
        with cgutils.for_range_slice(builder, WORD64(0), count, WORD64(64), WORD64) as (at, _):
            one, two = (_load(builder, data, at, BYTES, 1) for data in (ours, theirs))
            builder.store(builder.call(add_products, [builder.load(total), two, one]), total)
        return _sum_of(builder, builder.load(total))

    return types.int32(query, row), generate
