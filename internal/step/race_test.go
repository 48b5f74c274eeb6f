//go:build race

package step_test

// raceDetector says that the tests are built with the race detector, which makes
// them ten times slower.
const raceDetector = true
