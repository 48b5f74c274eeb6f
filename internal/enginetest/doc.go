// Package enginetest tries the action as GitHub's runner runs it, on a Docker
// engine, and compares what it builds with what BuildKit builds.
//
// Everything lives in the tests: they need an engine, root, and base images that
// they make from Debian's packages.
package enginetest
