"""What a user should know of images once they are segmented: which to look at first."""

from collections.abc import Sequence

from karyon.commands.console import named
from karyon.errors import printable
from karyon.inference.answer import Answer

SHOWN = 5  # names in a sentence


class Remarks:
    """Collects the names of files of which there is something to say."""

    def __init__(self) -> None:
        self.inverted: list[str] = []
        self.doubtful: list[str] = []
        self.empty: list[str] = []
        self.passed_over: list[str] = []

    def add(self, name: str, answers: Sequence[Answer], whole: bool) -> None:
        """Looks at what was found in the images of a file, one or more; in the whole of it, or in what was left."""
        self.inverted += [name] if any(answer.view.inverted for answer in answers) else []
        self.doubtful += [name] if any(answer.doubtful for answer in answers) else []
        self.empty += [name] if whole and not any(len(answer.instances) for answer in answers) else []

    def show(self) -> None:
        """Prints a sentence for each kind."""
        if self.passed_over:
            print(f"Passed over beside the images of slides: {'; '.join(map(printable, self.passed_over))}.")
        for sentence, names in (
            ("Inverted, since their background is bright: {}. --background dark forbids it.", self.inverted),
            ("Doubtful, look at them first: {}. Their scores are low; see counts.csv.", self.doubtful),
            ("Nothing was found in {}.", self.empty),
        ):
            if names:
                print(sentence.format(named([*map(printable, names)], SHOWN)))
