# shellcheck shell=bash
# For scripts that are tests: each check is one line, and a count at the end. To be sourced; `work` has to name a folder.

passed=0 failed=0

check() { # check WHAT COMMAND…: one line, and what the command said if it fails
  local what=$1
  shift
  # In the background, because "set -e" does not hold in a condition.
  ("$@") >"${work:?}/said" 2>&1 &
  if wait $!; then
    passed=$((passed + 1))
    echo "ok    $what"
  else
    failed=$((failed + 1))
    echo "FAIL  $what"
    sed 's/^/      /' "$work/said" | tail -n 30
  fi
}

checked() { # the end of a script: the count, and its exit status
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}
