"""One table, written as Markdown, CSV or LaTeX."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

NONE = "–"
LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "–": "--",
}


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        values: its numbers, one for each of the table's parts, None where unknown; CSV holds these in full precision.
        text: as people read it.
        bold: whether it is the best of its comparison.
        note: why something is missing, printed below the table; "" if nothing is.
    """

    values: tuple[float | None, ...]
    text: str
    bold: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table with labelled rows.

    Args:
        title: what it shows.
        caption: how it was computed, and what to beware of, in sentences.
        labels: headings of the columns that label a row.
        columns: headings of the others.
        rows: labels of a row → its cells.
        parts: what the numbers of a cell are, such as ("mean", "sd").

    Example:
        >>> cells = (Cell((0.5, 0.1), "0.50 (0.10)", bold=True), Cell((None, None), NONE, note="ours, 5 scans: failed"))
        >>> print(Table("Dice", "Of one split.", ("scans",), ("theirs", "ours"), {("5",): cells}).to_markdown())
        **Dice.** Of one split.
        <BLANKLINE>
        | scans | theirs | ours |
        | --- | --- | --- |
        | 5 | **0.50 (0.10)** | – [1] |
        <BLANKLINE>
        [1] ours, 5 scans: failed
    """

    title: str
    caption: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Mapping[tuple[str, ...], tuple[Cell, ...]]
    parts: tuple[str, ...] = ("mean", "sd")

    @property
    def notes(self) -> list[str]:
        """The notes of all cells, each once, in the order of the cells."""
        return list(dict.fromkeys(cell.note for cells in self.rows.values() for cell in cells if cell.note))

    def to_markdown(self) -> str:
        """Return the table as Markdown, which a terminal shows well, too."""

        def shown(cell: Cell) -> str:
            mark = f" [{self.notes.index(cell.note) + 1}]" if cell.note else ""
            return (f"**{cell.text}**" if cell.bold else cell.text) + mark

        lines = [(*self.labels, *self.columns), ("---",) * (len(self.labels) + len(self.columns))]
        lines += [(*labels, *map(shown, cells)) for labels, cells in self.rows.items()]
        body = "\n".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in lines)
        notes = "\n".join(f"[{number}] {note}" for number, note in enumerate(self.notes, 1))
        return "\n\n".join(filter(None, [f"**{self.title}.** {self.caption}", body, notes]))

    def to_csv(self) -> str:
        """Return the numbers in full precision, a column for each part; a missing one is an empty field, notes are left out."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*self.labels, *(f"{column} {part}" for column in self.columns for part in self.parts)])
        for labels, cells in self.rows.items():
            writer.writerow([*labels, *(value for cell in cells for value in cell.values)])
        return stream.getvalue()

    def to_latex(self) -> str:
        """Return the table as LaTeX, without any package; the notes follow below it."""

        def shown(cell: Cell) -> str:
            mark = f"\\textsuperscript{{{self.notes.index(cell.note) + 1}}}" if cell.note else ""
            return (f"\\textbf{{{latex(cell.text)}}}" if cell.bold else latex(cell.text)) + mark

        lines = [[*map(latex, labels), *map(shown, cells)] for labels, cells in self.rows.items()]
        notes = [f"\\textsuperscript{{{number}}} {latex(note)}" for number, note in enumerate(self.notes, 1)]
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                f"\\caption{{{latex(f'{self.title}. {self.caption}')}}}",
                f"\\begin{{tabular}}{{{'l' * len(self.labels)}{'r' * len(self.columns)}}}",
                r"\hline",
                " & ".join(map(latex, (*self.labels, *self.columns))) + r" \\ \hline",
                *(" & ".join(line) + r" \\" for line in lines),
                r"\hline",
                r"\end{tabular}",
                *(f"\\par\\footnotesize {note}" for note in notes),
                r"\end{table}",
                "",
            ]
        )


def latex(text: str) -> str:
    r"""Return plain text with LaTeX's special characters escaped.

    Example:
        >>> print(latex("unet_dwp, 90 % & −0.1"))
        unet\_dwp, 90 \% \& $-$0.1
    """
    return "".join(LATEX.get(char, char) for char in text)
