// Package docs_test holds the documentation together: links lead somewhere, the two
// READMEs say the same, and the guide to migration knows what it replaces.
package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// page is a Markdown file: its prose without code, its code blocks, the levels of
// its headings, and the anchors that they make.
type page struct {
	prose   string
	code    []string
	levels  []int
	anchors map[string]bool
}

func read(t *testing.T, path string) page {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := page{anchors: map[string]bool{}}
	var prose, block []string
	fence := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == fence:
			p.code, fence, block = append(p.code, strings.Join(block, "\n")), "", nil
		case fence != "":
			block = append(block, line)
		case strings.HasPrefix(trimmed, "```"):
			fence = trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]
		default:
			if hashes := len(line) - len(strings.TrimLeft(line, "#")); hashes > 0 && strings.HasPrefix(line[hashes:], " ") {
				p.levels = append(p.levels, hashes)
				p.addAnchor(line[hashes:])
			}
			prose = append(prose, line)
		}
	}
	p.prose = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(strings.Join(prose, "\n"), "")
	return p
}

// addAnchor is what GitHub makes of a heading: letters, digits, hyphens and
// underscores in lower case, blanks as hyphens, a number if there was such a one.
func (p *page) addAnchor(heading string) {
	heading = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(strings.TrimSpace(heading), "$1")
	anchor := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
	for n, name := 0, anchor; ; n++ {
		if n > 0 {
			name = anchor + "-" + string(rune('0'+n))
		}
		if !p.anchors[name] {
			p.anchors[name] = true
			return
		}
	}
}

// links are the targets of the page's links and pictures.
func (p page) links() []string {
	var targets []string
	for _, m := range regexp.MustCompile(`\]\(([^()\s]+)\)`).FindAllStringSubmatch(p.prose, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			found = append(found, path)
		}
		return nil
	})
	if err != nil || len(found) < 15 {
		t.Fatalf("got %v, %v, want the pages", found, err)
	}
	return found
}

// A link inside the repository leads to a file, and to a heading that is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, path := range pages(t) {
		p := read(t, path)
		for _, link := range p.links() {
			target, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %s: %v", path, link, err)
				continue
			}
			if target.IsAbs() {
				continue
			}
			file := path
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(path), target.Path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: %s leads nowhere", path, link)
				continue
			}
			if target.Fragment != "" && !read(t, file).anchors[target.Fragment] {
				t.Errorf("%s: %s: there is no such heading", path, link)
			}
		}
	}
}

// Every page of docs can be found from its index.
func TestIndex(t *testing.T) {
	t.Parallel()
	listed := read(t, root+"/docs/README.md").links()
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := filepath.Base(file); name != "README.md" && !slices.Contains(listed, name) {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
	listed = read(t, root+"/docs/examples/README.md").links()
	for _, pattern := range []string{"*.yml", "*/*.yml"} {
		files, err := filepath.Glob(filepath.Join(root, "docs/examples", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if name, err := filepath.Rel(root+"/docs/examples", file); err != nil || !slices.Contains(listed, name) {
				t.Errorf("docs/examples/README.md does not list %s", name)
			}
		}
	}
}

// README.ko.md is in step with README.md: sections, code and links.
func TestKorean(t *testing.T) {
	t.Parallel()
	english, korean := read(t, root+"/README.md"), read(t, root+"/README.ko.md")
	if diff := cmp.Diff(korean.levels, english.levels); diff != "" {
		t.Errorf("sections (-README.ko.md +README.md):\n%s", diff)
	}
	if diff := cmp.Diff(korean.code, english.code); diff != "" {
		t.Errorf("code (-README.ko.md +README.md):\n%s", diff)
	}
	// A sentence may name its links in another order.
	sorted := func(links []string) []string {
		own := []string{"README.md", "README.ko.md"}
		return slices.Sorted(slices.Values(slices.DeleteFunc(links, func(l string) bool { return slices.Contains(own, l) })))
	}
	if diff := cmp.Diff(sorted(korean.links()), sorted(english.links())); diff != "" {
		t.Errorf("links (-README.ko.md +README.md):\n%s", diff)
	}
	if rows := strings.Count(english.prose, "\n|"); strings.Count(korean.prose, "\n|") != rows {
		t.Errorf("rows of tables: got %d, want %d", strings.Count(korean.prose, "\n|"), rows)
	}
}

// README.md opens with the two commands, and then the step.
func TestOpening(t *testing.T) {
	t.Parallel()
	code := read(t, root+"/README.md").code
	if len(code) < 2 || !strings.Contains(code[0], "go run . rehearse") || !strings.Contains(code[0], "go test ./...") ||
		!strings.Contains(code[1], "uses: towline/towline@v1") {
		t.Errorf("README.md opens with %q", code[:min(2, len(code))])
	}
}

// What the workflow before has and that after has not is in the guide's table.
func TestMigration(t *testing.T) {
	t.Parallel()
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before, after, guide := text("examples/migration/before.yml"), text("examples/migration/after.yml"), text("migration.md")
	replaced := 0
	for _, m := range regexp.MustCompile(`uses: ([\w./-]+)@`).FindAllStringSubmatch(before, -1) {
		if strings.Contains(after, m[1]+"@") {
			continue
		}
		replaced++
		if !strings.Contains(guide, "| `"+m[1]+"`") {
			t.Errorf("migration.md does not say what becomes of %s", m[1])
		}
	}
	if replaced != 6 {
		t.Errorf("%d actions are replaced, want 6", replaced)
	}
}
