#!/bin/sh
# completions.sh BERTH SHARE: writes the completions for bash, zsh and fish to where these look for them under SHARE.
set -eu
berth=$1 share=$2
write() { # shell, file
	mkdir -p "$(dirname "$share/$2")"
	"$berth" completion "$1" >"$share/$2.new"
	mv "$share/$2.new" "$share/$2"
}
write bash bash-completion/completions/berth
write zsh zsh/site-functions/_berth
write fish fish/vendor_completions.d/berth.fish
