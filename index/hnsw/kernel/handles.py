"""Handing the kernel what it reads as addresses in one array: numba takes 150 ns for each array that it is given itself.

``handle_of`` (types.py) makes the array, and these the parts again in compiled code. Whoever makes a handle keeps the parts
alive for as long.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from index.hnsw.kernel.types import Graph, Part, Rotation, Scratch, Vectors

WORD = ir.IntType(64)
NUMBER, FLAG = types.int64, types.boolean


def _array(kind: Any, dimensions: int = 1) -> Any:
    return types.Array(kind, dimensions, "C")


def _graph(row: Any) -> list[Any]:
    links = [_array(types.uint32, 2), _array(types.uint32), _array(types.uint32)]
    rows = [_array(row, 2), _array(types.uint64, 2), _array(types.float32, 2)]
    return [*links, *rows, *[NUMBER] * 7, FLAG, FLAG]


ROTATION = [_array(types.float32), _array(types.uint32, 2), _array(types.float32, 2)]
VECTORS = [_array(types.float32, 2), _array(types.uint32, 2), *[NUMBER] * 4, FLAG]
SCRATCH = [
    *(_array(types.uint16), _array(types.float32), _array(types.int64), _array(types.int64), _array(types.float64)),
    *(_array(types.float32), *[_array(types.int64)] * 6),
    *([_array(types.float32)] * 3),
    *(_array(types.int8), _array(types.uint64), _array(types.float32), _array(types.int64)),
]


def _words(fields: list[Any]) -> int:
    return sum(1 + field.ndim if isinstance(field, types.Array) else 1 for field in fields)


def _restorer(kind: type[Part], fields: list[Any]) -> Any:
    """Return what makes a part of the kind out of a handle, from a word of it on, inside compiled code."""
    result = types.NamedTuple(fields, kind)

    @intrinsic
    def restore(_, handle, first):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            data = context.make_array(handle)(context, builder, arguments[0]).data
            places = (builder.add(arguments[1], WORD(n)) for n in range(_words(fields)))
            words = (builder.load(builder.gep(data, [place])) for place in places)
            values = []
            for field in fields:
                word = next(words)
                if not isinstance(field, types.Array):
                    values.append(context.cast(builder, word, NUMBER, field))
                    continue
                made = context.make_array(field)(context, builder)
                shape = [next(words) for _ in range(field.ndim)]
                size = WORD(context.get_abi_sizeof(context.get_data_type(field.dtype)))
                strides = [size] if field.ndim == 1 else [builder.mul(shape[1], size), size]
                where = builder.inttoptr(word, made.data.type)
                populate_array(made, data=where, shape=shape, strides=strides, itemsize=size, meminfo=None)
                values.append(made._getvalue())
            return context.make_tuple(builder, result, values)

        return result(handle, first), generate

    return restore


coded_graph = _restorer(Graph, _graph(types.uint8))
plain_graph = _restorer(Graph, _graph(types.float32))
rotation_of = _restorer(Rotation, ROTATION)
vectors_of = _restorer(Vectors, VECTORS)
scratch_of = _restorer(Scratch, SCRATCH)
AT_ROTATION = _words(_graph(types.uint8))
AT_VECTORS = AT_ROTATION + _words(ROTATION)
