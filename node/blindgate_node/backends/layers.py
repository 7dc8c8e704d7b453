"""The architecture of a table's model: a closed list of layers, declared in `architecture.json`, with no name to import.

    {"columns": 13, "layers": [{"kind": "linear", "inputs": 13, "outputs": 16}, {"kind": "relu"}, …]}

A layer's tensors have the names that they have in torch's `nn.Sequential`: `0.weight` belongs to the first layer. So the
`state_dict` of a Sequential of these layers, saved as safetensors, fits as it is. An embedding is the one that a Sequential
lacks: it takes its column, which holds positions of categories, out of the row, and puts the category's numbers at the row's
end.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from blindgate_protocol.errors import PackageError
from blindgate_protocol.signing import first_error
from blindgate_protocol.values import Value

MAX_LAYERS: Final = 256
MAX_WIDTH: Final = 1 << 16
MAX_PARAMETERS: Final = 1 << 30

Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Epsilon = Annotated[float, Field(gt=0, le=1)]
Shapes = dict[str, tuple[int, ...]]


class Linear(Value):
    """`x·Wᵀ + b`; `weight` is `(outputs, inputs)`."""

    kind: Literal["linear"]
    inputs: Width
    outputs: Width
    bias: bool = True

    def width(self, before: int) -> int:
        """How wide a row is behind the layer; raises `ValueError` for a row that does not fit."""
        _fits(before, self.inputs)
        return self.outputs

    def shapes(self) -> Shapes:
        """The layer's tensors."""
        return {"weight": (self.outputs, self.inputs)} | ({"bias": (self.outputs,)} if self.bias else {})


class Norm(Value):
    """Layer norm over the row, or batch norm with the means and variances that training left."""

    kind: Literal["layer_norm", "batch_norm"]
    size: Width
    epsilon: Epsilon = 1e-5

    def width(self, before: int) -> int:
        """As wide as before; raises `ValueError` for another size."""
        return _fits(before, self.size)

    def shapes(self) -> Shapes:
        """The layer's tensors."""
        names = ["weight", "bias"] + (["running_mean", "running_var"] if self.kind == "batch_norm" else [])
        return dict.fromkeys(names, (self.size,))


class Embedding(Value):
    """Numbers for each category of one column."""

    kind: Literal["embedding"]
    column: Annotated[int, Field(ge=0, lt=MAX_WIDTH)]
    categories: Annotated[int, Field(ge=1, le=1 << 20)]
    size: Width

    def width(self, before: int) -> int:
        """A column less, and `size` more."""
        return before - 1 + self.size

    def shapes(self) -> Shapes:
        """The layer's tensor."""
        return {"weight": (self.categories, self.size)}


class Plain(Value):
    """A layer without tensors. Softmax is over the row; GELU is the exact one; dropout does nothing once a model is trained."""

    kind: Literal["relu", "gelu", "tanh", "sigmoid", "silu", "softmax", "dropout"]

    def width(self, before: int) -> int:
        """As wide as before."""
        return before

    def shapes(self) -> Shapes:
        """None."""
        return {}


Layer = Linear | Norm | Embedding | Plain


class Architecture(Value):
    """What is computed, layer by layer.

    Attributes:
        columns: how many numbers a row has.
        layers: in the order in which they are computed. Embeddings stand before all others.
    """

    columns: Width
    layers: Annotated[
        tuple[Annotated[Layer, Field(discriminator="kind")], ...], Field(min_length=1, max_length=MAX_LAYERS)
    ]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        width, parameters = self.columns, 0
        for position, layer in enumerate(self.layers):
            embedded = sum(isinstance(before, Embedding) for before in self.layers[:position])
            if isinstance(layer, Embedding) and embedded < position:
                message = f"layer {position}: embeddings stand before all other layers"
                raise ValueError(message)
            if isinstance(layer, Embedding) and layer.column >= self.columns - embedded:
                message = (
                    f"layer {position}: column {layer.column} of rows that have {self.columns - embedded} columns left"
                )
                raise ValueError(message)
            try:
                width = layer.width(width)
            except ValueError as error:
                message = f"layer {position} ({layer.kind}): {error}"
                raise ValueError(message) from None
            if width > MAX_WIDTH:
                message = f"layer {position}: rows of {width}, expected at most {MAX_WIDTH}"
                raise ValueError(message)
            parameters += sum(_product(shape) for shape in layer.shapes().values())
        if parameters > MAX_PARAMETERS:
            message = f"{parameters} parameters, expected at most {MAX_PARAMETERS}"
            raise ValueError(message)
        return self

    @property
    def outputs(self) -> int:
        """How many numbers the answer has for each row."""
        width = self.columns
        for layer in self.layers:
            width = layer.width(width)
        return width

    def shapes(self) -> Shapes:
        """Every tensor that the model has, by name."""
        return {
            f"{position}.{name}": shape
            for position, layer in enumerate(self.layers)
            for name, shape in layer.shapes().items()
        }


_ARCHITECTURE: Final = TypeAdapter(Architecture)


def read_architecture(data: bytes) -> Architecture:
    """The architecture from JSON. Raises `PackageError` naming the layer and the rule."""
    try:
        return _ARCHITECTURE.validate_json(data)
    except ValidationError as error:
        message = f"architecture.json: {first_error(error)}"
        raise PackageError(message) from error


def _fits(before: int, expected: int) -> int:
    if before != expected:
        message = f"takes rows of {expected}, and gets rows of {before}"
        raise ValueError(message)
    return before


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
