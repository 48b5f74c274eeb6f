#!/bin/sh
# Shows every page, then waits: the demo is about deploying it.
set -eu
for page in /srv/*.html; do
	echo "serving $page"
	cat "$page"
done
