"""Examples that hypothesis draws, for tests that want many of them at once."""

from hypothesis import Phase, given, settings

from minigrad.testing.strategies import primitive_inputs


def drawn(strategy, count):
    """Return `count` examples: they are compiled together, which takes seconds, and so are not shrunk."""
    examples = []

    @settings(max_examples=count, phases=[Phase.generate], database=None)
    @given(strategy)
    def draw(example):
        examples.append(example)

    draw()
    return examples


def options_of(row):
    """Return the options that the family of a row draws, each once."""
    if not row.metadata:
        return [{}]
    return list({repr(options): options for _, options in drawn(primitive_inputs(row), 20)}.values())
