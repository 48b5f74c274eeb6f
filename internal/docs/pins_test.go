package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What a page or an example names is the version that the project's own workflows
// have pinned: by the same digest, or by the major version alone.
func TestPins(t *testing.T) {
	t.Parallel()
	// An action's name, its version, and the comment that says which version a digest is.
	uses := regexp.MustCompile(`uses: ([\w.-]+/[\w./-]+)@(\S+)(?: # (v\S+))?`)
	pinned := map[string]string{}
	for _, file := range glob(t, ".github/workflows/*.yml") {
		for _, m := range uses.FindAllStringSubmatch(content(t, file), -1) {
			if m[3] == "" {
				continue // a workflow or an action of this repository
			}
			pin := m[2] + " # " + m[3]
			if other, known := pinned[m[1]]; known && other != pin {
				t.Errorf("%s pins %s as %s, another workflow as %s", file, m[1], pin, other)
			}
			pinned[m[1]] = pin
		}
	}
	if len(pinned) < 2 || pinned["actions/checkout"] == "" {
		t.Fatalf("the workflows pin %v", pinned)
	}
	files := append(pages(t), glob(t, "docs/examples/*.yml", "docs/examples/*/*.yml", "testdata/engine/*/*.yml")...)
	named := 0
	for _, file := range files {
		for _, m := range uses.FindAllStringSubmatch(content(t, file), -1) {
			pin, known := pinned[m[1]]
			if !known {
				continue
			}
			named++
			_, version, _ := strings.Cut(pin, " # ")
			major, _, _ := strings.Cut(version, ".")
			if got := strings.TrimSuffix(m[2]+" # "+m[3], " # "); got != pin && got != major {
				t.Errorf("%s names %s@%s, want %s or %s", file, m[1], got, major, pin)
			}
		}
	}
	if named < 10 {
		t.Errorf("%d references were found: the pattern has missed some", named)
	}
}

// The outputs that the READMEs name are among those of the action, and each README
// names the same ones in the same order as action.yml.
func TestOutputsNamed(t *testing.T) {
	t.Parallel()
	var defined []string
	_, outputs, _ := strings.Cut(content(t, filepath.Join(root, "action.yml")), "\noutputs:\n")
	outputs, _, _ = strings.Cut(outputs, "\nruns:\n")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+):$`).FindAllStringSubmatch(outputs, -1) {
		defined = append(defined, m[1])
	}
	for name, begin := range map[string]string{"README.md": "\nOutputs: ", "README.ko.md": "\n출력: "} {
		_, list, found := strings.Cut(content(t, filepath.Join(root, name)), begin)
		list, _, _ = strings.Cut(list, "\n\n")
		var named []string
		for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(list, -1) {
			named = append(named, m[1])
		}
		want := slices.DeleteFunc(slices.Clone(defined), func(output string) bool { return !slices.Contains(named, output) })
		if !found || len(named) < 10 || !slices.Equal(named, want) {
			t.Errorf("%s names the outputs %v, of which action.yml has, in its order, %v", name, named, want)
		}
	}
}

func glob(t *testing.T, patterns ...string) []string {
	t.Helper()
	var found []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
