#!/bin/sh
# proxied.sh COMMAND...: runs it with the proxy in its environment. Standard input is a line with the
# proxy, or nothing: it may hold a password, so it is no argument.
IFS= read -r proxy || :
[ -z "$proxy" ] || export https_proxy="$proxy" HTTPS_PROXY="$proxy"
exec "$@" </dev/null
