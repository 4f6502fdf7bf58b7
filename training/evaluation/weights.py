"""Whether weights are those of a network."""

from collections.abc import Iterable

from tailmoe.training.errors import BadInputError


def check_weights(where: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Raise `BadInputError` unless saved weights are those of the network; libraries would draw the others at random.

    Args:
        where: What holds the weights.
        missing: Names of the network's weights that are not there.
        unexpected: Names of weights there that the network does not have.
    """
    if differing := [*sorted(missing), *sorted(unexpected)]:
        raise BadInputError(
            f"{where} holds the weights of another network, such as one of an earlier version ({differing[0]} differs): train anew "
            "in another folder."
        )
