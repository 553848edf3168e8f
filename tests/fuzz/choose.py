"""Which of the inputs that a libFuzzer merge has looked at are worth a file in the corpus.

Reads the merge's control file: numbers of all files and of those of the corpus, their paths, and
for each the code that it reached first ("FT number edge..."). Prints the paths, not of the corpus,
of those that alone reach several edges: the few that reach one more are not worth a file each.
"""

import sys

EDGES_MIN = 8


def choose(text):
    lines = text.split("\n")
    total, known = int(lines[0]), int(lines[1])
    paths = lines[2 : 2 + total]
    for line in lines[2 + total :]:
        words = line.split()
        if words[:1] == ["FT"] and int(words[1]) >= known and len(words) - 2 >= EDGES_MIN:
            yield paths[int(words[1])]


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        for path in choose(file.read()):
            print(path)
