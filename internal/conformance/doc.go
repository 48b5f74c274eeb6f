// Package conformance holds what Towline builds against what BuildKit builds.
//
// Each archive of testdata/conformance is a Dockerfile with its context and the
// image that BuildKit makes of it, written down; Towline builds it in every
// sandbox that can be had here. A second test makes Dockerfiles up and compares
// the two builders on them. Everything lives in the tests.
package conformance
