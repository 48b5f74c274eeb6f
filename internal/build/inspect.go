package build

import (
	"fmt"
	"os"

	"github.com/towline/towline/internal/build/dockerfile"
)

// Stage is a stage of a Dockerfile.
type Stage = dockerfile.Stage

// Inspect reads the Dockerfile without building anything, and gives the stages
// that would be built; see dockerfile.Inspect. known is false, and nothing is
// read, where the Dockerfile lies in a context that is not a folder.
func Inspect(opts Options) (stages []Stage, known bool, err error) {
	if dockerfile.Remote(opts.Context) || !isFolder(opts.Context) {
		return nil, false, nil
	}
	text, err := os.ReadFile(opts.File)
	if err != nil {
		return nil, false, fmt.Errorf("dockerfile: %w", err)
	}
	display := opts.Display
	if display == "" {
		display = opts.File
	}
	stages, err = dockerfile.Inspect(text, display, opts.Target, opts.BuildArgs)
	return stages, true, err
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
