//go:build !race

package step_test

// raceDetector says that the tests are built with the race detector.
const raceDetector = false
