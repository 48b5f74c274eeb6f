package inputs

import (
	"regexp"
	"slices"
	"strings"
)

// mapHostPaths puts workspace in place of the runner's host path of it, and temp
// in place of that of RUNNER_TEMP, wherever they stand in value. The runner itself
// maps only values that begin with them, and does not tell a container what they
// are; but the workspace always ends with the repository's name twice, and the
// temporary folder is "_temp", below "_work" or, on GitHub's own machines,
// "/home/runner/work", or "/__w" in a job container.
func mapHostPaths(value, workspace, temp string) string {
	if workspace == "" {
		return value
	}
	var out strings.Builder
	done := 0
	for _, at := range regexp.MustCompile(`(?:/[\w.@+-]+)+`).FindAllStringIndex(value, -1) {
		if at[0] > 0 && !strings.ContainsAny(value[at[0]-1:at[0]], " \t\r\n=,;:|'\"([{<") {
			continue
		}
		length, folder := hostWorkspace(value[at[0]:at[1]]), workspace
		if length == 0 {
			length, folder = hostTemp(value[at[0]:at[1]]), temp
		}
		if length == 0 || folder == "" {
			continue
		}
		out.WriteString(value[done:at[0]] + folder)
		done = at[0] + length
	}
	return out.String() + value[done:]
}

// hostWorkspace is how many bytes of path are the workspace on the host; 0: none.
func hostWorkspace(path string) int {
	parts := strings.Split(path[1:], "/")
	for i := range len(parts) - 2 {
		if parts[i+1] == parts[i+2] && isWorkFolder(parts[:i+1]) {
			return len("/" + strings.Join(parts[:i+3], "/"))
		}
	}
	return 0
}

// hostTemp is how many bytes of path are the temporary folder on the host; 0: none.
func hostTemp(path string) int {
	parts := strings.Split(path[1:], "/")
	for i := range len(parts) - 1 {
		if parts[i+1] == "_temp" && isWorkFolder(parts[:i+1]) {
			return len("/" + strings.Join(parts[:i+2], "/"))
		}
	}
	return 0
}

// isWorkFolder says whether path is where a runner keeps its jobs' folders.
func isWorkFolder(path []string) bool {
	return path[len(path)-1] == "_work" || slices.Equal(path, []string{"home", "runner", "work"}) || slices.Equal(path, []string{"__w"})
}
