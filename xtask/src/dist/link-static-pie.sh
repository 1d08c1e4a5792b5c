#!/bin/sh
# The linker of the static binaries: gcc, with the lld of the toolchain ($RUST_LLD). That one folds equal
# functions into one, and packs relocations for aarch64, which GNU ld does since 2.43.
#
# For aarch64, rustc knows no static PIE for its musl target, though all that one is made of is there. So
# this links with the objects for it.
gcc=aarch64-linux-gnu-gcc
for argument; do
  shift
  case "$argument" in
  # rustc names the number of bits for x86_64 alone.
  -m64) gcc=gcc ;;
  */crt1.o) argument="${argument%crt1.o}rcrt1.o" ;;
  */crtbegin.o) argument="${argument%.o}S.o" ;;
  */crtend.o) argument="${argument%.o}S.o" ;;
  -static | -no-pie) argument=-static-pie ;;
  esac
  set -- "$@" "$argument"
done
exec "$gcc" -B"$RUST_LLD" -fuse-ld=lld -Wl,--icf=all "$@"
