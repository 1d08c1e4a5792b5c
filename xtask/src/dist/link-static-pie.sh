#!/bin/sh
# The linker for aarch64: rustc knows no static PIE for its musl target, though all that one is made
# of is there. So this links with the objects for it, by the lld of the toolchain ($RUST_LLD).
for argument; do
  shift
  case "$argument" in
  */crt1.o) argument="${argument%crt1.o}rcrt1.o" ;;
  */crtbegin.o) argument="${argument%.o}S.o" ;;
  */crtend.o) argument="${argument%.o}S.o" ;;
  -static | -no-pie) argument=-static-pie ;;
  esac
  set -- "$@" "$argument"
done
exec aarch64-linux-gnu-gcc -B"$RUST_LLD" -fuse-ld=lld "$@"
