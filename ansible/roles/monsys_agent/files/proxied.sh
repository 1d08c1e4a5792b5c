#!/bin/sh
# proxied.sh COMMAND...: runs it with the proxy in its environment. Standard input is two lines, each
# possibly empty: the proxy, which may hold a password and so is no argument, and what is past it.
IFS= read -r proxy || :
IFS= read -r past || :
[ -z "$proxy" ] || export https_proxy="$proxy" HTTPS_PROXY="$proxy"
[ -z "$past" ] || export no_proxy="$past" NO_PROXY="$past"
exec "$@" </dev/null
