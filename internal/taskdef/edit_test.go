package taskdef

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWith(t *testing.T) {
	t.Parallel()
	const full = `{"name":"a","image":"x","environment":[{"name":"A","value":"1","note":{}},{"value":"","name":"B"}],` +
		`"secrets":[{"name":"S","valueFrom":"arn:s"}],"command":["\u0061"],"environmentFiles":[{"type":"s3","value":"arn:f"}],` +
		`"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"/a"},"secretOptions":[]},"dockerLabels":{"l":"1"}}`
	tests := map[string]struct {
		containers string
		edits      Edits
		want       string
	}{
		"nothing":                   {full, Edits{}, full},
		"a variable, others as was": {full, Edits{Environment: []Pair{{"B", "<2>"}, {"C", "3"}}}, strings.Replace(full, `{"value":"","name":"B"}`, `{"value":"<2>","name":"B"},{"name":"C","value":"3"}`, 1)},
		"equal ones keep escapes":   {full, Edits{Environment: []Pair{{"A", "1"}}, Command: []string{"a"}, EnvFiles: []string{"arn:f"}, DockerLabels: []Pair{{"l", "1"}}}, full},
		"variable removed":          {full, Edits{RemoveEnvironment: []string{"A", "Z"}}, strings.Replace(full, `{"name":"A","value":"1","note":{}},`, ``, 1)},
		"secret for a variable":     {full, Edits{Secrets: []Pair{{"A", "arn:a"}}}, strings.Replace(strings.Replace(full, `{"name":"A","value":"1","note":{}},`, ``, 1), `"arn:s"}`, `"arn:s"},{"name":"A","valueFrom":"arn:a"}`, 1)},
		"variable for a secret":     {full, Edits{Environment: []Pair{{"S", "v"}}}, strings.Replace(strings.Replace(full, `{"name":"S","valueFrom":"arn:s"}`, ``, 1), `"name":"B"}`, `"name":"B"},{"name":"S","value":"v"}`, 1)},
		"secret removed":            {full, Edits{RemoveSecrets: []string{"S"}}, strings.Replace(full, `{"name":"S","valueFrom":"arn:s"}`, ``, 1)},
		"files replaced":            {full, Edits{EnvFiles: []string{"arn:g", "arn:h"}}, strings.Replace(full, `[{"type":"s3","value":"arn:f"}]`, `[{"value":"arn:g","type":"s3"},{"value":"arn:h","type":"s3"}]`, 1)},
		"another driver":            {full, Edits{LogDriver: "awsfirelens", LogOptions: []Pair{{"Name", "x"}}}, strings.Replace(full, `{"logDriver":"awslogs","options":{"awslogs-group":"/a"},"secretOptions":[]}`, `{"logDriver":"awsfirelens","options":{"Name":"x"}}`, 1)},
		"the same driver":           {full, Edits{LogDriver: "awslogs", LogOptions: []Pair{{"mode", "a=b"}}}, strings.Replace(full, `"awslogs-group":"/a"`, `"awslogs-group":"/a","mode":"a=b"`, 1)},
		"command":                   {full, Edits{Command: []string{"sh", ""}}, strings.Replace(full, `["\u0061"]`, `["sh",""]`, 1)},
		"into nothing": {`{"name":"a","secrets":null}`, Edits{
			Environment: []Pair{{"A", ""}}, Secrets: []Pair{{"S", "arn"}}, LogDriver: "awslogs", DockerLabels: []Pair{{"l", "m"}},
		}, `{"name":"a","secrets":[{"name":"S","valueFrom":"arn"}],"environment":[{"name":"A","value":""}],"logConfiguration":{"logDriver":"awslogs"},"dockerLabels":{"l":"m"}}`},
		"nothing to remove": {`{"name":"a"}`, Edits{RemoveEnvironment: []string{"A"}, RemoveSecrets: []string{"B"}}, `{"name":"a"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.edits.Containers = []string{"a"}
			other := `,{"name":"b","environment":[{"name":"A","value":"b"}]}`
			got, err := parse(t, file(test.containers+other)).With(test.edits)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(request(t, got)), file(test.want+other)); diff != "" {
				t.Errorf("request (-got +want):\n%s", diff)
			}
		})
	}
}

func TestWithTopLevel(t *testing.T) {
	t.Parallel()
	base := parse(t, `{"family":"f","taskRoleArn":"\u0061","tags":[{"key":"k","value":"v"}],"containerDefinitions":[{"name":"a","image":"x"},{"name":"b","image":"y"}]}`)
	got, err := base.With(Edits{
		Images: map[string]string{"a": "x:2", "b": "y:2"}, TaskRole: "a", ExecutionRole: "e", Tags: []Pair{{"k", "w"}, {"l", ""}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"family":"f","taskRoleArn":"\u0061","tags":[{"key":"k","value":"w"},{"key":"l","value":""}],` +
		`"containerDefinitions":[{"name":"a","image":"x:2"},{"name":"b","image":"y:2"}],"executionRoleArn":"e"}`
	if diff := cmp.Diff(string(request(t, got)), want); diff != "" {
		t.Errorf("request (-got +want):\n%s", diff)
	}
}

func TestWithMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		container string
		edits     Edits
		want      string
	}{
		"container":   {`{"name":"b"}`, Edits{Command: []string{"x"}}, `render task definition: input "container-name" is "a": task definition f has no such container. Use one that exists: b.`},
		"image":       {`{"name":"a"}`, Edits{Images: map[string]string{"c": "x"}}, `render task definition: input "container-name" is "c": task definition f has no such container. Use one that exists: a.`},
		"environment": {`{"name":"a","environment":{}}`, Edits{Environment: []Pair{{"A", "b"}}}, `render task definition: input "environment-variables": container a of task definition f: its environment is an object, not a list. Correct the task definition that it begins with.`},
		"labels":      {`{"name":"a","dockerLabels":"x"}`, Edits{DockerLabels: []Pair{{"A", "b"}}}, `render task definition: input "docker-labels": container a of task definition f: its dockerLabels is a string, not an object. Correct the task definition that it begins with.`},
		"no driver":   {`{"name":"a"}`, Edits{LogOptions: []Pair{{"A", "b"}}}, `render task definition: input "log-configuration-options": container a of task definition f: it has no log driver that the options could be for. Set "log-configuration-log-driver" too.`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.edits.Containers = []string{"a"}
			_, err := parse(t, file(test.container)).With(test.edits)
			if diff := cmp.Diff(message(err), test.want); diff != "" {
				t.Errorf("message (-got +want):\n%s", diff)
			}
		})
	}
}

// TestOnlyWhatWasEditedChanges is TestOnlyWhatWasAskedForChanges for the edits:
// lists of names and values in which some are set, some are taken out, and the
// rest, whatever it holds, arrives as it was written.
func TestOnlyWhatWasEditedChanges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		w := writer{rand: rand.New(rand.NewPCG(seed, 2))}
		edits := Edits{Containers: []string{"c"}}
		container := []written{w.member("name", `"c"`, `"c"`), w.member("image", `"i"`, `"i"`)}
		var added []string
		for _, list := range []struct {
			member, value string
			set           *[]Pair
			remove        *[]string
		}{
			{"environment", "value", &edits.Environment, &edits.RemoveEnvironment},
			{"secrets", "valueFrom", &edits.Secrets, &edits.RemoveSecrets},
		} {
			m, there := w.list(list.member, list.value, list.set, list.remove)
			if there {
				container = append(container, m)
			} else if m.want != "" {
				added = append(added, m.want)
			}
		}
		if m, there := w.labels(&edits.DockerLabels); there {
			container = append(container, m)
		} else if m.want != "" {
			added = append(added, m.want)
		}
		container = append(container, w.members(3, "futureField", "ulimits", "healthCheck", "newThing")...)
		c, wantC := w.object(container)
		for _, each := range added {
			wantC = strings.TrimSuffix(wantC, "}") + "," + each + "}"
		}
		f, v := w.object(append(w.members(4, "cpuX", "volumes", "quantum"), w.member("family", `"f"`, `"f"`), w.member("containerDefinitions", "["+c+"]", "["+wantC+"]")))
		d, err := parse(t, f).With(edits)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, f)
		}
		if diff := cmp.Diff(string(request(t, d)), v); diff != "" {
			t.Fatalf("seed %d: %+v: request (-got +want):\n%s", seed, edits, diff)
		}
	}
}

// list makes a list of named values and edits of it. It is there in the file,
// or else want is what the edits add.
func (w writer) list(name, value string, set *[]Pair, remove *[]string) (m written, there bool) {
	there = w.rand.IntN(4) > 0
	var files, wants []string
	for i := range w.rand.IntN(5) {
		key := fmt.Sprintf("%s%d", strings.ToUpper(name[:1]), i)
		entry := []written{w.member("name", `"`+key+`"`, `"`+key+`"`)}
		old := w.text()
		set1 := w.member(value, old, old)
		keep := true
		switch w.rand.IntN(4) {
		case 0:
			*remove, keep = append(*remove, key), false
		case 1:
			*set = append(*set, Pair{key, "n<e>w"})
			set1.want = `"` + value + `":"n<e>w"`
			if !there {
				wants = append(wants, `{"name":"`+key+`","`+value+`":"n<e>w"}`)
			}
		}
		f, v := w.object(append(entry, append(w.members(2, "extra", "more"), set1)...))
		files = append(files, f)
		if keep && there {
			wants = append(wants, v)
		}
	}
	if there {
		return w.member(name, "["+w.space()+strings.Join(files, ",")+"]", "["+strings.Join(wants, ",")+"]"), true
	}
	if len(wants) > 0 {
		m.want = `"` + name + `":[` + strings.Join(wants, ",") + "]"
	}
	return m, false
}

// labels is list for an object of strings.
func (w writer) labels(set *[]Pair) (m written, there bool) {
	there = w.rand.IntN(2) == 0
	var all []written
	var added []string
	for i := range w.rand.IntN(4) {
		key := fmt.Sprintf("l%d", i)
		old := w.text()
		label := w.member(key, old, old)
		if w.rand.IntN(2) == 0 {
			*set = append(*set, Pair{key, "s=t"})
			label.want = `"` + key + `":"s=t"`
			added = append(added, label.want)
		}
		all = append(all, label)
	}
	if !there {
		if len(added) > 0 {
			m.want = `"dockerLabels":{` + strings.Join(added, ",") + "}"
		}
		return m, false
	}
	f, v := w.object(all)
	return w.member("dockerLabels", f, v), true
}
