"""A circuit on ciphertexts: each product as soon as it is made goes where it is added, and is let go of.

A product of k polynomials takes k times the words of a ring element, a megabyte or two, and a forest has thousands of them. So no
product waits for the sums that name it: it is added to what there is of each of them, and only sums that have begun are held.
Groups of bits are added up first, and held as bits are: there are as many at most as `bits.MAX_GROUPS`.
"""

from collections.abc import Mapping, Sequence

from tenseal import sealapi

from blindgate_models.seal.bgv import Ring
from blindgate_models.seal.serial import Ciphertext, Plaintext
from blindgate_models.trees_batch.circuit import Circuit, Sum


class Evaluation:
    """A circuit that is ready to be computed, any number of times.

    Attributes:
        used: the bits that it needs.
    """

    def __init__(self, circuit: Circuit, ring: Ring) -> None:
        self._circuit = circuit
        self._ring = ring
        sums = [*(product.of for product in circuit.products), *circuit.outputs]
        self._scalars: dict[int, Plaintext] = {
            weight: ring.scalar(weight) for weight in {weight for each in sums for weight in each.weights.values()}
        }
        self._goes: list[list[tuple[int, int]]] = [[] for _ in circuit.products]
        for place, each in enumerate(sums):
            for sign, numbers in ((1, each.added), (-1, each.subtracted)):
                for number in numbers:
                    self._goes[number].append((place, sign))
        for places in self._goes:
            places.sort(key=lambda pair: pair[1])  # added last, so that the last sum to begin with it need not copy it
        named = circuit.named
        self._groups = [(group, sorted(members)) for group, members in circuit.groups.items() if group in named]
        self.used = circuit.used

    def run(self, bits: Mapping[int, Ciphertext]) -> list[Ciphertext | None]:
        """Each output without its constant; `None` for one that is constant.

        Raises `RuntimeError` when a sum or a product is transparent.
        """
        bits = {**bits, **{group: self._added_up([bits[bit] for bit in members]) for group, members in self._groups}}
        begun: dict[int, Ciphertext] = {}
        for number, product in enumerate(self._circuit.products):
            inner = self._with_bits(product.of, begun.pop(number, None), bits)
            made = self._ring.times(bits[product.bit], inner)
            goes = self._goes[number]
            for position, (place, sign) in enumerate(goes, 1):
                begun[place] = self._combined(begun.get(place), made, sign, last=position == len(goes))
        first = len(self._circuit.products)
        return [
            self._with_bits(output, begun.pop(first + place, None), bits)
            for place, output in enumerate(self._circuit.outputs)
        ]

    def _added_up(self, bits: Sequence[Ciphertext]) -> Ciphertext:
        total = sealapi.Ciphertext()
        self._ring.evaluator.add_many(list(bits), total)
        return total

    def _with_bits(self, of: Sum, total: Ciphertext | None, bits: Mapping[int, Ciphertext]) -> Ciphertext | None:
        """`total` + Σ weight·bit."""
        for bit, weight in of.weights.items():
            scaled = self._ring.times_scalar(bits[bit], self._scalars[weight])
            if total is None:
                total = scaled
            else:
                self._ring.evaluator.add_inplace(total, scaled)
        return total

    def _combined(self, total: Ciphertext | None, made: Ciphertext, sign: int, *, last: bool) -> Ciphertext:
        """`total` + sign·made. `last`: nobody else needs `made`."""
        evaluator = self._ring.evaluator
        if total is not None:
            (evaluator.add_inplace if sign > 0 else evaluator.sub_inplace)(total, made)
            return total
        if last and sign > 0:
            return made
        copy = sealapi.Ciphertext()
        evaluator.negate(made, copy)  # sealapi copies none but this way
        if sign > 0:
            evaluator.negate_inplace(copy)
        return copy
