// Package internal_test holds the shape of the whole program: which package may
// import which, and how long a file may be.
package internal_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/towline/towline"

// room is one package: what it may import of this project, and what its tests
// may import besides (that includes the package itself, and all that it may).
type room struct {
	imports []string
	tests   []string
	why     string
}

// rooms are all packages, the highest first. Imports run downwards: a room may
// only import rooms that stand below it. Change a line together with its reason.
var rooms = []struct {
	name string
	room
}{
	{".", room{
		imports: []string{"internal/build/sandbox", "internal/permissions", "internal/rehearse", "internal/step"},
		why:     "main is the story: the step's phases, signals, and becoming a process that a RUN cannot read",
	}},
	{"internal/bench", room{
		imports: []string{"internal/bases", "internal/buildkitd"},
		why:     "measures the program from outside, beside BuildKit",
	}},
	{"internal/enginetest", room{
		tests: []string{"internal/bases", "internal/buildkitd", "internal/emulator", "internal/imagetest"},
		why:   "sees the program from outside, as the runner does: through the image, the wire and the log",
	}},
	{"internal/docs", room{why: "the documentation's links, and that what says the same does"}},
	{"internal/conformance", room{
		tests: []string{"internal/build", "internal/build/dockerfile", "internal/build/progress", "internal/build/sandbox", "internal/buildkitd", "internal/imagetest"},
		why:   "what build makes of a Dockerfile, against what BuildKit makes of it",
	}},
	{"internal/bases", room{
		imports: []string{"internal/buildkitd", "internal/imagetest"},
		why:     "base images that are made on this machine, for tests and the benchmark",
	}},
	{"internal/buildkitd", room{why: "BuildKit's own daemon, for tests"}},
	{"internal/imagetest", room{why: "images of tests, made, described and compared, whoever built them"}},
	{"internal/permissions", room{
		imports: []string{"internal/inputs", "internal/policy", "internal/problem", "internal/workflow"},
		why:     "the command that prints policies",
	}},
	{"internal/rehearse", room{
		imports: []string{"internal/emulator", "internal/inputs", "internal/problem", "internal/scratch", "internal/step", "internal/workflow"},
		tests:   []string{"internal/build/sandbox"},
		why:     "the same step, with the emulator in the place of GitHub and AWS",
	}},
	{"internal/workflow", room{imports: []string{"internal/problem"}, why: "which steps of a workflow file are ours, for the commands that read one"}},
	{"internal/step", room{
		imports: []string{
			"internal/actions", "internal/actionscache", "internal/awsauth", "internal/build", "internal/build/progress", "internal/build/sandbox", "internal/deploy",
			"internal/inputs", "internal/policy", "internal/preflight", "internal/problem", "internal/registry", "internal/report", "internal/rollout", "internal/scratch", "internal/taskdef",
		},
		tests: []string{"internal/emulator"},
		why:   "the only place where the phases meet; each of them knows nothing of the next",
	}},
	{"internal/report", room{
		imports: []string{"internal/actions", "internal/build/progress", "internal/deploy", "internal/problem", "internal/registry"},
		why:     "turns the events of build, registry and deploy into the runner's words; nobody else writes",
	}},
	{"internal/scratch", room{why: "folders for temporary files that outlive nobody"}},
	{"internal/emulator", room{why: "a stand-in shares no code with what it is to test"}},
	{"internal/preflight", room{
		imports: []string{"internal/problem", "internal/taskdef"},
		tests:   []string{"internal/emulator"},
		why:     "reads what a task definition names, in services that nobody else asks; what comes of it is the step's affair",
	}},
	{"internal/deploy", room{
		imports: []string{"internal/problem", "internal/taskdef"},
		tests:   []string{"internal/emulator"},
		why:     "knows ECS; an image is a string in a task definition to it",
	}},
	{"internal/taskdef", room{imports: []string{"internal/problem"}, why: "pure: a document in, a document out"}},
	{"internal/registry", room{
		imports: []string{"internal/problem"},
		tests:   []string{"internal/emulator"},
		why:     "moves images; knows neither how they are built nor who deploys them",
	}},
	{"internal/build", room{
		imports: []string{
			"internal/build/dockerfile", "internal/build/keys", "internal/build/layer", "internal/build/mounts", "internal/build/progress", "internal/build/sandbox", "internal/build/sbom", "internal/build/snapshot",
			"internal/build/solver", "internal/build/source", "internal/problem",
		},
		why: "the facade of a build; it knows no AWS and no GitHub, and gets its images through an interface",
	}},
	{"internal/build/dockerfile", room{
		imports: []string{"internal/build/progress", "internal/build/snapshot", "internal/build/source", "internal/problem"},
		why:     "BuildKit's frontend compiles, others execute",
	}},
	{"internal/build/solver", room{
		imports: []string{
			"internal/build/keys", "internal/build/mounts", "internal/build/progress", "internal/build/sandbox", "internal/build/snapshot", "internal/build/source",
			"internal/build/source/git", "internal/build/source/web", "internal/build/unpack", "internal/problem",
		},
		why: "executes LLB with what the rooms below offer",
	}},
	{"internal/build/source", room{
		imports: []string{"internal/build/source/git", "internal/build/source/web", "internal/problem"},
		why:     "contexts, and the words that LLB has for sources",
	}},
	{"internal/build/source/git", room{imports: []string{"internal/problem"}, why: "a repository in, files out; it talks to servers and to nobody here"}},
	{"internal/build/source/web", room{imports: []string{"internal/problem"}, why: "a URL in, a file out"}},
	{"internal/build/unpack", room{imports: []string{"internal/build/layer"}, why: "ADD's archives; a folder's free space is the layers' word"}},
	{"internal/build/keys", room{imports: []string{"internal/problem"}, why: "the ssh keys of a build, shown to nobody but through an agent"}},
	{"internal/build/mounts", room{why: "a leaf: folder <-> index and packs, for what outlives a build"}},
	{"internal/build/snapshot", room{
		imports: []string{"internal/build/layer", "internal/build/progress", "internal/problem"},
		why:     "chains of layers; folders only when something needs them",
	}},
	{"internal/build/sandbox", room{
		imports: []string{"internal/build/sandbox/child", "internal/build/sandbox/inroot", "internal/problem"},
		why:     "runs one process in a root filesystem, and knows no build",
	}},
	{"internal/build/sandbox/child", room{
		imports: []string{"internal/build/sandbox/inroot"},
		why:     "runs in the new process before its command: the less code, the better",
	}},
	{"internal/build/sandbox/inroot", room{why: "paths that a hostile root filesystem cannot lead astray"}},
	{"internal/build/layer", room{imports: []string{"internal/problem"}, why: "a leaf: tar <-> folder"}},
	{"internal/build/sbom", room{why: "a leaf: a root filesystem in, the list of its packages out"}},
	{"internal/build/progress", room{why: "a leaf: the vocabulary of events"}},
	{"internal/awsauth", room{imports: []string{"internal/problem"}, why: "a token and a role in, an aws.Config out"}},
	{"internal/policy", room{
		imports: []string{"internal/inputs"},
		tests:   []string{"internal/emulator"},
		why:     "pure: settings in, what AWS has to allow for them out",
	}},
	{"internal/inputs", room{imports: []string{"internal/problem", "internal/rollout"}, why: "text in, checked settings out"}},
	{"internal/rollout", room{why: "a leaf: in what order several services are gone over, whatever they are"}},
	{"internal/actionscache", room{tests: []string{"internal/emulator"}, why: "a leaf: GitHub's cache service, whatever is kept in it"}},
	{"internal/actions", room{imports: []string{"internal/problem"}, why: "a leaf: the runner's protocol, whatever is said in it"}},
	{"internal/problem", room{why: "a leaf: the error that a user reads"}},
}

// reserved are third parties' packages that one room alone may import, and what
// lies below them.
var reserved = map[string]struct{ room, why string }{
	"github.com/moby/buildkit/frontend":        {"internal/build/dockerfile", "what a Dockerfile means is decided in one place"},
	"github.com/sethvargo/go-githubactions":    {"internal/actions", "it panics and writes to the log: only one room deals with that"},
	"github.com/aws/aws-sdk-go-v2/service/ecs": {"internal/deploy", "only deploy talks to ECS"},
	"github.com/aws/aws-sdk-go-v2/service/sts": {"internal/awsauth", "only awsauth talks to STS"},

	"github.com/aws/aws-sdk-go-v2/service/iam":            {"internal/preflight", "only pre-flight looks at roles"},
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager": {"internal/preflight", "only pre-flight looks at secrets, and never at their values"},
	"github.com/aws/aws-sdk-go-v2/service/ssm":            {"internal/preflight", "only pre-flight looks at parameters, and never at their values"},
}

// long are files that may have more than maxLines lines, and why.
var long = map[string]string{
	"internal/build/layer/apply_tree.go": "every way in which a hostile tar may lead out of its root, in one place to be read at once",
}

const maxLines = 500

// source is one parsed file.
type source struct {
	path  string // from the module's root, with slashes
	room  string
	test  bool
	lines int
	ast   *ast.File
	fset  *token.FileSet
}

func TestImports(t *testing.T) {
	t.Parallel()
	depth := map[string]int{}
	for i, r := range rooms {
		if _, twice := depth[r.name]; twice {
			t.Fatalf("%s stands in the table twice", r.name)
		}
		if r.why == "" {
			t.Errorf("%s: no reason", r.name)
		}
		depth[r.name] = i
	}
	for i, r := range rooms {
		for _, below := range r.imports {
			if at, known := depth[below]; known && at <= i {
				t.Errorf("%s may import %s: imports run downwards", r.name, below)
			}
		}
	}
	for _, f := range sources(t) {
		at, known := depth[f.room]
		if !known {
			t.Errorf("%s: package %s is not in the table", f.path, f.room)
			continue
		}
		allowed := rooms[at].imports
		if f.test {
			allowed = slices.Concat(allowed, rooms[at].tests, []string{f.room, "internal/problem"})
		}
		for _, imported := range imports(t, f) {
			if imported == module {
				t.Errorf("%s imports main", f.path)
			}
			if name, ours := strings.CutPrefix(imported, module+"/"); ours && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which %s may not", f.path, name, f.room)
			}
			for prefix, owner := range reserved {
				if !f.test && (imported == prefix || strings.HasPrefix(imported, prefix+"/")) && f.room != owner.room {
					t.Errorf("%s imports %s, which only %s may: %s", f.path, imported, owner.room, owner.why)
				}
			}
		}
	}
}

// Every room of the table is there, so that a moved package takes its line along.
func TestTableIsCurrent(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, f := range sources(t) {
		used[f.room] = true
	}
	for _, r := range rooms {
		if !used[r.name] {
			t.Errorf("%s is in the table and has no file", r.name)
		}
	}
	for file := range long {
		if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(file))); err != nil {
			t.Errorf("%s is excused for its length: %v", file, err)
		}
	}
}

// Only main reads the environment: all others are told what they need, so that a
// test can run them side by side, and a RUN finds no secret by a slip of ours.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	readers := []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv", "Clearenv"}
	for _, f := range sources(t) {
		if f.test || f.path == "main.go" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			if ok && (pkg.Name == "os" || pkg.Name == "syscall" || pkg.Name == "unix") && slices.Contains(readers, selector.Sel.Name) {
				t.Errorf("%s:%d: %s.%s: only main.go touches the environment", f.path, f.fset.Position(n.Pos()).Line, pkg.Name, selector.Sel.Name)
			}
			return true
		})
	}
}

func TestFileLength(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		if _, excused := long[f.path]; !f.test && !excused && f.lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it, or say in the table why not", f.path, f.lines, maxLines)
		}
	}
}

// sources parses every Go file of the module but those below testdata. The files
// themselves are read, as `go test` then knows what the result depends on.
func sources(t *testing.T) []source {
	t.Helper()
	found := map[string]source{}
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") && name != "..") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, content, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		slashed := filepath.ToSlash(relative)
		found[slashed] = source{
			path: slashed, room: path.Dir(slashed), test: strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(content, []byte("\n")), ast: parsed, fset: fset,
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files := make([]source, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if name != "internal/imports_test.go" {
			files = append(files, found[name])
		}
	}
	return files
}

// imports lists the paths that a file imports.
func imports(t *testing.T, f source) []string {
	t.Helper()
	var paths []string
	for _, spec := range f.ast.Imports {
		unquoted, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", f.path, err)
		}
		paths = append(paths, unquoted)
	}
	return paths
}
