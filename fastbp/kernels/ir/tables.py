"""A table of integers as kernels see it: one pointer, whose fields have names.

A record of as many fields travels whole to each function, through the stack: on an EPYC (Zen 4)
`online` took 3 % longer so, and `twolayer` 2 %.
"""

from numba import types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

from .vectors import I64


class Table(types.Type):
    """The type of a table: `numbers` integers, then arrays, each of the first number plus one."""

    def __init__(self, record, numbers):
        super().__init__(f"Table({record.__name__})")
        self.fields, self.numbers = record._fields, numbers


@register_model(Table)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, I64.as_pointer())


@infer_getattr
class _Attributes(AttributeTemplate):
    key = Table

    def generic_resolve(self, kind, name):
        is_number = kind.fields.index(name) < kind.numbers
        return types.int64 if is_number else types.CPointer(types.int64)


@lower_getattr_generic(Table)
def _field(context, builder, kind, table, name):
    place = kind.fields.index(name)
    if place < kind.numbers:
        return _number(builder, table, place)
    length = builder.add(_number(builder, table, 0), I64(1))
    skipped = builder.mul(length, I64(place - kind.numbers))
    return builder.gep(table, [builder.add(skipped, I64(kind.numbers))])


def _number(builder, table, place):
    found = builder.load(builder.gep(table, [I64(place)]))
    # Nobody writes to tables: it need not be loaded again after each store.
    found.set_metadata("invariant.load", builder.module.add_metadata([]))
    return found


def as_table(record, numbers):
    """Return a function for kernels that takes a pointer to integers for the table of a record."""
    table = Table(record, numbers)

    @intrinsic
    def convert(typingctx, ptr):
        return table(types.CPointer(types.int64)), lambda context, builder, sig, args: args[0]

    return convert
