"""Puts bugs into a source, each of which is asleep until mutant.h says its name.

  mutate.py mutations.txt runtime/actor/cell.cc > mutated/cell.cc

A mutation is a name and a file, a line of the file, and what takes its place; MUTANT is true while
it is awake. A name may come several times, for several places.
"""
import sys


def read_mutations(path):
  """[(name, file, old, new)]"""
  mutations = []
  with open(path, encoding='utf-8') as table:
    lines = [line.rstrip('\n') for line in table]
  lines = [line for line in lines if line and not line.startswith('#')]
  for k in range(0, len(lines), 3):
    name, file = lines[k].split()
    old, new = lines[k + 1], lines[k + 2]
    if not old.startswith('- ') or not new.startswith('+ '):
      sys.exit(f'{path}: {lines[k]} needs a line "- old" and a line "+ new"')
    mutations.append((name, file, old[2:].strip(), new[2:].strip()))
  return mutations


def mutate(text, mutations):
  """The text with all of them."""
  for name, file, old, new in mutations:
    found = text.count(old)
    if found != 1:
      sys.exit(f'{name}: "{old}" is there {found} times in {file}: mend mutations.txt')
    text = text.replace(old, new.replace('MUTANT', f'packcast::rtsim::IsMutant("{name}")'))
  return '#include "tests/runtime/sim/mutant.h"\n' + text


def main():
  table, source = sys.argv[1:]
  mutations = [m for m in read_mutations(table) if source.endswith(m[1])]
  if not mutations:
    sys.exit(f'{table} has nothing for {source}')
  with open(source, encoding='utf-8') as file:
    sys.stdout.write(mutate(file.read(), mutations))


if __name__ == '__main__':
  main()
