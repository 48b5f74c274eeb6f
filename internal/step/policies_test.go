package step_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/emulator"
)

// documented is docs/iam.md, taken apart.
type documented struct {
	trust string
	// definitions are those of flows, and of all others by the name "".
	definitions map[string]string
	flows       map[string]documentedFlow
}

// documentedFlow is one step of the document, and the policies for it.
type documentedFlow struct {
	definition  string
	with        map[string]string
	permissions permissions
	// repository is the policy of another account's repository, if there is one.
	repository permissions
}

// without takes a part away.
func (f documentedFlow) without(gone part) documentedFlow {
	if gone.repository {
		f.repository = f.repository.without(gone)
	} else {
		f.permissions = f.permissions.without(gone)
	}
	return f
}

// required leaves out what can be left out.
func (f documentedFlow) required() documentedFlow {
	f.permissions, f.repository = f.permissions.required(), f.repository.required()
	return f
}

// permissions is a policy document from which parts can be taken away.
type permissions struct {
	Version   string
	Statement []map[string]any
}

func (p permissions) json(t *testing.T) string {
	t.Helper()
	encoded, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// part is one action or one resource of a statement, or all of it.
type part struct {
	statement     int
	member, value string
	sid           string
	optional, all bool
	// repository says that it is of the repository's policy.
	repository bool
}

func (p part) String() string {
	if p.repository {
		return p.sid + " of the repository without " + p.value
	}
	return p.sid + " without " + p.value
}

// parts are everything that can be taken away, each by itself. "*" is not: an
// action without resources is nothing. Statements that another flow takes apart
// are only taken away as a whole.
func (p permissions) parts(elsewhere map[string]bool) []part {
	var all []part
	for i, s := range p.Statement {
		sid := fmt.Sprint(s["Sid"])
		one := part{statement: i, sid: sid, optional: strings.HasPrefix(sid, "Optional")}
		if elsewhere[fmt.Sprint(s)] || len(list(s["Action"])) == 1 {
			one.value, one.all = "the statement", true
			all = append(all, one)
		}
		if elsewhere[fmt.Sprint(s)] {
			continue
		}
		for _, member := range []string{"Action", "Resource"} {
			values := list(s[member])
			for _, value := range values {
				if len(values) == 1 || s[member] == nil {
					continue
				}
				one.member, one.value, one.all = member, value, false
				all = append(all, one)
			}
		}
	}
	return all
}

// parts are those of the role's policy, and of the repository's.
func (f documentedFlow) parts(elsewhere map[string]bool) []part {
	all := f.permissions.parts(elsewhere)
	for _, one := range f.repository.parts(elsewhere) {
		one.repository = true
		all = append(all, one)
	}
	return all
}

// elsewhere are the statements of flows before this one.
func (d documented) elsewhere(flow string) map[string]bool {
	seen := map[string]bool{}
	for name, other := range d.flows {
		if name >= flow {
			continue
		}
		for _, s := range other.permissions.Statement {
			seen[fmt.Sprint(s)] = true
		}
	}
	return seen
}

// without takes a part away.
func (p permissions) without(gone part) permissions {
	out := permissions{Version: p.Version}
	for i, s := range p.Statement {
		if i != gone.statement {
			out.Statement = append(out.Statement, s)
			continue
		}
		if gone.all {
			continue
		}
		s = maps.Clone(s)
		s[gone.member] = slices.DeleteFunc(list(s[gone.member]), func(v string) bool { return v == gone.value })
		out.Statement = append(out.Statement, s)
	}
	return out.orNothing()
}

// required leaves out what can be left out.
func (p permissions) required() permissions {
	out := permissions{Version: p.Version}
	for _, s := range p.Statement {
		if !strings.HasPrefix(fmt.Sprint(s["Sid"]), "Optional") {
			out.Statement = append(out.Statement, s)
		}
	}
	return out.orNothing()
}

// orNothing makes a document of no statements one that IAM takes.
func (p permissions) orNothing() permissions {
	if len(p.Statement) == 0 {
		p.Statement = []map[string]any{{"Effect": "Deny", "Action": "*", "Resource": "*"}}
	}
	return p
}

func list(value any) []string {
	if many, ok := value.([]any); ok {
		var all []string
		for _, each := range many {
			all = append(all, fmt.Sprint(each))
		}
		return all
	}
	return []string{fmt.Sprint(value)}
}

func readDocument(t *testing.T) documented {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "iam.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	find := func(in, marker string) []string {
		var found []string
		for _, m := range regexp.MustCompile("(?s)<!-- "+marker+" -->\n```json\n(.*?)```").FindAllStringSubmatch(in, -1) {
			found = append(found, m[1])
		}
		return found
	}
	d := documented{trust: find(text, "json trust")[0], definitions: map[string]string{}, flows: map[string]documentedFlow{}}
	for _, m := range regexp.MustCompile("(?s)<!-- definition ?(\\S*) -->\n```json\n(.*?)```").FindAllStringSubmatch(text, -1) {
		for name := range strings.SplitSeq(m[1], "+") {
			d.definitions[name] = m[2]
		}
	}
	for _, m := range regexp.MustCompile("(?s)<!-- flow (\\S+) -->.*?```yaml\n(.*?)```\n(.*?)<!-- /generated -->").FindAllStringSubmatch(text, -1) {
		flow := documentedFlow{definition: cmp.Or(d.definitions[m[1]], d.definitions[""]), with: map[string]string{}}
		values := map[string]any{}
		if err := yaml.Unmarshal([]byte(m[2]), &values); err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		for name, value := range values {
			flow.with[name] = fmt.Sprint(value)
		}
		if strings.HasPrefix(m[1], "trust-") {
			continue
		}
		if err := json.Unmarshal([]byte(find(m[3], "json permissions")[0]), &flow.permissions); err != nil {
			t.Fatalf("%s: %v", m[1], err)
		}
		for _, policy := range find(m[3], "json repository") {
			if err := json.Unmarshal([]byte(policy), &flow.repository); err != nil {
				t.Fatalf("%s: %v", m[1], err)
			}
		}
		d.flows[m[1]] = flow
	}
	return d
}

// TestPolicies runs each flow of docs/iam.md with exactly the policy that stands
// there. With it nothing is denied, and what is not optional suffices. Without any
// one action or resource, a step whose statement is needed fails, and one whose
// statement is optional still does its work, and says what it missed.
func TestPolicies(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("building keeps owners, which needs root")
	}
	document := readDocument(t)
	for name := range stages() {
		if _, there := document.flows[name]; !there {
			t.Errorf("docs/iam.md has no flow %s", name)
		}
	}
	for name, flow := range document.flows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := stages()[name]
			if len(all) == 0 {
				t.Fatal("docs/iam.md has a flow that is not run: add it to stages")
			}
			for i, s := range all {
				got := flow.play(t, document, s)
				if (got.code != 0) != s.fails {
					t.Errorf("stage %d: got exit code %d, want a failure: %t\n%s", i, got.code, s.fails, got.log)
				}
				if len(got.denied) > 0 || strings.Contains(got.log, notChecked) {
					t.Errorf("stage %d: denied with the whole policy: %q\n%s", i, got.denied, got.log)
				}
				if s.suffices() {
					if got := flow.required().play(t, document, s); got.code != 0 {
						t.Errorf("stage %d: got exit code %d without the optional statements:\n%s", i, got.code, got.log)
					}
				}
			}
			for _, gone := range flow.parts(document.elsewhere(name)) {
				if gone.optional {
					flow.checkSpared(t, document, all, gone)
				} else {
					flow.checkNeeded(t, document, all, gone)
				}
			}
		})
	}
}

// checkNeeded finds a stage that fails without a part, and without what can be
// left out, which may allow the same.
func (f documentedFlow) checkNeeded(t *testing.T, d documented, all []stage, gone part) {
	t.Helper()
	for _, s := range all {
		if s.suffices() && f.without(gone).required().play(t, d, s).code != 0 {
			return
		}
	}
	t.Errorf("%s: got success, want a failure: the statement is optional, or not needed", gone)
}

// checkSpared finds a stage in which the lack of a part is noticed.
func (f documentedFlow) checkSpared(t *testing.T, d documented, all []stage, gone part) {
	t.Helper()
	for _, s := range all {
		got := f.without(gone).play(t, d, s)
		if len(got.denied) == 0 {
			continue
		}
		// Both tell it in words of their own.
		quiet := slices.Contains([]string{"OptionalNeighbours", "OptionalDescribeTaskDefinition", "OptionalStopTask"}, gone.sid)
		switch {
		case slices.Contains(s.breaks, gone.sid):
			if got.code == 0 {
				t.Errorf("%s: got success, want a failure: the stage needs it", gone)
			}
		case (got.code != 0) != s.fails:
			t.Errorf("%s: got exit code %d, want it optional:\n%s", gone, got.code, got.log)
		case gone.looks():
			if strings.Count(got.log, notChecked) != 1 || strings.Count(got.log, "::notice") != 1 {
				t.Errorf("%s: the log has not one notice, of what was not checked:\n%s", gone, got.log)
			}
		case strings.HasPrefix(got.denied[0], "ecs ") && !quiet && !strings.Contains(got.log, " is not allowed: "):
			t.Errorf("%s: the log does not say what is not allowed:\n%s", gone, got.log)
		}
		return
	}
	t.Errorf("%s: nothing is denied: the policy is too wide", gone)
}

// notChecked begins pre-flight's notice of what it may not look at.
const notChecked = "Pre-flight did not check "

// looks says whether the part is only for what pre-flight may look at.
func (p part) looks() bool {
	return strings.HasPrefix(p.sid, "OptionalCheck")
}

// played is what came of a run.
type played struct {
	code   int
	log    string
	denied []string
}

// play runs a flow on a stage with a policy.
func (f documentedFlow) play(t *testing.T, d documented, s stage) played {
	t.Helper()
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	for file, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY hello.txt /\n", "hello.txt": "hello\n", "ecs/web.json": f.definition} {
		writeFile(t, filepath.Join(workspace, file), []byte(text))
	}
	env := environment(dir, workspace)
	for name, value := range f.with {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	var got played
	t.Run("bubble", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			t.Helper()
			w := newWorld(t, env, strings.Join(append([]string{"permissions " + f.permissions.json(t), "trust " + oneLine(d.trust)}, s.world...), "\n"), f.definition)
			w.nameDocumented(t)
			f.addForeign(t, w)
			s.begin(t, w, f.definition)
			if got.code = w.run(t); w.twice && got.code == 0 {
				w.reset(t)
				got.code = w.run(t)
			}
			got.log = w.log.String()
			for _, call := range w.cloud.Calls()[w.skipCalls:] {
				refused := call.Service + " " + call.Action
				if (strings.HasPrefix(call.ErrorCode, "AccessDenied") || call.ErrorCode == "DENIED") && !slices.Contains(s.tolerates, refused) {
					got.denied = append(got.denied, refused)
				}
			}
			settle(t)
		})
	})
	return got
}

// addForeign adds the repositories in another account and in ECR Public.
func (f documentedFlow) addForeign(t *testing.T, w *world) {
	t.Helper()
	w.cloud.AddRepository(emulator.Repository{Name: "shop", Alias: "acme"})
	uri := w.cloud.AddRepository(emulator.Repository{Name: "shop", Account: "210987654321"})
	if len(f.repository.Statement) == 0 || f.repository.Statement[0]["Effect"] == "Deny" {
		return
	}
	if err := w.cloud.SetRepositoryPolicy(uri, f.repository.json(t)); err != nil {
		t.Fatal(err)
	}
}

// nameDocumented adds what the document's definitions and flows name.
func (w *world) nameDocumented(t *testing.T) {
	t.Helper()
	for _, name := range []string{"web-execution", "web-task"} {
		if _, err := w.cloud.AddRole(emulator.Role{Name: name, TrustPolicy: emulator.TrustTasks()}); err != nil {
			t.Fatal(err)
		}
	}
	w.cloud.AddSecret(emulator.Secret{Name: "prod/db", Suffix: "AbCdEf"})
	w.cloud.AddParameter("/prod/key")
	w.cloud.AddRepository(emulator.Repository{Name: "shop-cache"})
}

func oneLine(doc string) string { return strings.Join(strings.Fields(doc), " ") }
