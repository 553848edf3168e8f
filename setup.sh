#!/usr/bin/env bash
# Installs what building and testing packcast needs, on Debian 12 or Ubuntu 24.04. Run it as root or
# as a user with sudo, as often as you like: when all is there, it does nothing. With --fuzz also
# what tests/fuzz/run.sh needs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lists=("$here/tools/setup/packages.txt")

say() { echo "setup.sh: $*"; }
die() {
  say "error: $*" >&2
  exit 1
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "run me as root, or install sudo. Needed: $*"
  fi
}

# Prints the packages of the lists, one a line.
wanted_packages() { sed 's/#.*//' "${lists[@]}" | tr -s ' \t' '\n\n' | sed '/^$/d' | sort -u; }

# Prints those that are not installed.
missing_packages() {
  local wanted installed
  wanted=$(wanted_packages)
  # dpkg-query fails when it does not know a name; that name is then missing from its output.
  installed=$(echo "$wanted" | xargs dpkg-query -W -f '${db:Status-Status} ${Package}\n' \
    2>/dev/null | sed -n 's/^installed //p' | sort -u) || true
  comm -23 <(echo "$wanted") <(echo "$installed")
}

check_distribution() {
  local id=unknown version=unknown
  if [[ -r /etc/os-release ]]; then
    id=$(. /etc/os-release && echo "${ID:-unknown}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-unknown}")
  fi
  case "$id-$version" in
    debian-12 | ubuntu-24.04) ;;
    *) die "this is $id $version; I know Debian 12 and Ubuntu 24.04. Install what" \
      "tools/setup/packages.txt names by other means, and a 'bazel' command." ;;
  esac
}

# Java's packages and Bazel read /proc, which a fresh chroot does not have.
ensure_proc() {
  [[ -e /proc/self/exe ]] && return
  say "mounting /proc"
  as_root mount -t proc proc /proc || die "/proc is not mounted, and Java and Bazel need it"
}

# Ubuntu keeps Bazel in its component 'universe', which minimal installations leave out.
check_available() {
  apt-cache show bazel-bootstrap >/dev/null 2>&1 ||
    die "apt knows no package bazel-bootstrap. On Ubuntu: add-apt-repository universe"
}

install() {
  say "installing: $*"
  as_root apt-get -qq -o Acquire::Retries=3 update
  check_available
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold install --no-install-recommends "$@"
}

main() {
  case "$*" in
    '') ;;
    --fuzz) lists+=("$here/tools/setup/fuzz.txt") ;;
    *) die "I take no arguments but --fuzz" ;;
  esac
  check_distribution
  ensure_proc
  local missing
  missing=$(missing_packages)
  if [[ -n $missing ]]; then
    # shellcheck disable=SC2086  # one argument a package
    install $missing
  fi
  command -v bazel >/dev/null || die "bazel-bootstrap is installed, but there is no bazel command"
  say "ready: $(wanted_packages | wc -l) packages installed"
}

main "$@"
