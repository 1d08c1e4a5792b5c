#!/bin/sh
# proxied.sh COMMAND...: runs the command with the proxy in its environment. Standard input has two lines,
# which may be empty: the proxy, and the value of no_proxy. The proxy may hold a password, so the role does
# not pass it as an argument.
IFS= read -r proxy || :
IFS= read -r past || :
[ -z "$proxy" ] || export https_proxy="$proxy" HTTPS_PROXY="$proxy"
[ -z "$past" ] || export no_proxy="$past" NO_PROXY="$past"
exec "$@" </dev/null
