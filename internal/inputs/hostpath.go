package inputs

import (
	"regexp"
	"slices"
	"strings"
)

// mapHostPaths puts workspace in place of the runner's host path of it,
// wherever that stands in value. The runner itself maps only values that begin
// with it, and does not tell a container what it is; but it always ends with
// the repository's name twice, below "_work" or, on GitHub's own machines,
// "/home/runner/work", or "/__w" in a job container.
func mapHostPaths(value, workspace string) string {
	if workspace == "" {
		return value
	}
	var out strings.Builder
	done := 0
	for _, at := range regexp.MustCompile(`(?:/[\w.@+-]+)+`).FindAllStringIndex(value, -1) {
		if at[0] > 0 && !strings.ContainsAny(value[at[0]-1:at[0]], " \t\r\n=,;:|'\"([{<") {
			continue
		}
		length := hostWorkspace(value[at[0]:at[1]])
		if length == 0 {
			continue
		}
		out.WriteString(value[done:at[0]] + workspace)
		done = at[0] + length
	}
	return out.String() + value[done:]
}

// hostWorkspace is how many bytes of path are the workspace on the host; 0: none.
func hostWorkspace(path string) int {
	parts := strings.Split(path[1:], "/")
	for i := range len(parts) - 2 {
		root := parts[:i+1]
		if parts[i+1] != parts[i+2] {
			continue
		}
		if parts[i] == "_work" || slices.Equal(root, []string{"home", "runner", "work"}) || slices.Equal(root, []string{"__w"}) {
			return len("/" + strings.Join(parts[:i+3], "/"))
		}
	}
	return 0
}
