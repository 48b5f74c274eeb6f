package taskdef

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEqualAndDiff(t *testing.T) {
	t.Parallel()
	container := func(members string) string { return file(`{"name":"web",` + members + `}`) }
	top := func(members string) string {
		return `{"family":"f",` + members + `,"containerDefinitions":[{"name":"web"}]}`
	}
	tests := map[string]struct {
		before, after string
		want          []Change
	}{
		"order of members": {
			before: `{"family":"f","cpu":"256","containerDefinitions":[{"name":"web"}]}`,
			after:  `{"containerDefinitions":[{"name":"web"}],"cpu":"256","family":"f"}`,
		},
		"order of environment, secrets and tags": {
			before: `{"family":"f","tags":[{"key":"a","value":"1"},{"key":"b","value":"2"}],"containerDefinitions":[{"name":"c","environment":[{"name":"A","value":"1"},{"name":"B","value":"2"}],"secrets":[{"name":"C","valueFrom":"x"},{"name":"D","valueFrom":"y"}]}]}`,
			after:  `{"family":"f","tags":[{"value":"2","key":"b"},{"key":"a","value":"1"}],"containerDefinitions":[{"name":"c","environment":[{"name":"B","value":"2"},{"name":"A","value":"1"}],"secrets":[{"name":"D","valueFrom":"y"},{"name":"C","valueFrom":"x"}]}]}`,
		},
		"nothing, null and empty lists": {
			before: container(`"command":[],"links":null,"x":{"y":[]}`),
			after:  container(`"mountPoints":[],"x":{"z":null}`),
		},
		"numbers and strings by value": {
			before: container(`"a":443,"b":1e3,"c":0.10,"d":-0,"e":12345678901234567890,"f":"<é"`),
			after:  container(`"a":443.0,"b":1000,"c":1E-1,"d":0,"e":1234567890123456789e1,"f":"\u003c\u00e9"`),
		},
		"what ECS fills in": {
			before: `{"family":"f","networkMode":"awsvpc","volumes":[{"name":"v"}],"containerDefinitions":[{"name":"web","portMappings":[{"containerPort":80}]}]}`,
			after:  `{"family":"f","networkMode":"awsvpc","volumes":[{"name":"v","host":{}}],"containerDefinitions":[{"name":"web","cpu":0,"essential":true,"portMappings":[{"containerPort":80,"hostPort":80,"protocol":"tcp"}]}]}`,
		},
		"a host port counts outside awsvpc": {
			before: container(`"portMappings":[{"containerPort":80}]`),
			after:  container(`"portMappings":[{"containerPort":80,"hostPort":80}]`),
			want:   []Change{{"containerDefinitions[web].portMappings[0].hostPort", "", "80"}},
		},
		"large numbers are told apart": {
			before: container(`"a":12345678901234567890,"b":1e400`), after: container(`"a":12345678901234567891,"b":1e401`),
			want: []Change{
				{"containerDefinitions[web].a", "12345678901234567890", "12345678901234567891"},
				{"containerDefinitions[web].b", "1e400", "1e401"},
			},
		},
		"absurd exponents": {
			before: container(`"a":1e99999999999999999999,"b":1e2147483648`), after: container(`"a":1e-99999999999999999999`),
			want: []Change{
				{"containerDefinitions[web].a", "1e99999999999999999999", "1e-99999999999999999999"},
				{"containerDefinitions[web].b", "1e2147483648", ""},
			},
		},
		"a number is not a string": {
			before: top(`"cpu":256`), after: top(`"cpu":"256"`),
			want: []Change{{"cpu", "256", `"256"`}},
		},
		"images exactly": {
			before: container(`"image":"h/r:1"`), after: container(`"image":"h/r:1@sha256:aa"`),
			want: []Change{{"containerDefinitions[web].image", `"h/r:1"`, `"h/r:1@sha256:aa"`}},
		},
		"an empty string is not nothing": {
			before: container(`"user":""`), after: container(`"x":{}`),
			want: []Change{{"containerDefinitions[web].user", `""`, ""}, {"containerDefinitions[web].x", "", "{}"}},
		},
		"environment by name": {
			before: container(`"environment":[{"name":"GONE","value":"1"},{"name":"LEVEL","value":"info"}]`),
			after:  container(`"environment":[{"name":"LEVEL","value":"debug"},{"name":"NEW","value":""}]`),
			want: []Change{
				{"containerDefinitions[web].environment[GONE]", `"1"`, ""},
				{"containerDefinitions[web].environment[LEVEL]", `"info"`, `"debug"`},
				{"containerDefinitions[web].environment[NEW]", "", `""`},
			},
		},
		"same name twice: order counts": {
			before: container(`"environment":[{"name":"A","value":"1"},{"name":"A","value":"2"}]`),
			after:  container(`"environment":[{"name":"A","value":"2"},{"name":"A","value":"1"}]`),
			want: []Change{
				{"containerDefinitions[web].environment[0].value", `"1"`, `"2"`},
				{"containerDefinitions[web].environment[1].value", `"2"`, `"1"`},
			},
		},
		"order of containers counts": {
			before: file(`{"name":"a"},{"name":"b"}`), after: file(`{"name":"b"},{"name":"a"}`),
			want: []Change{{"containerDefinitions", "a, b", "b, a"}},
		},
		"a container more": {
			before: file(`{"name":"a"}`), after: file(`{"name":"a"},{"name":"b","image":"i","command":["x"]}`),
			want: []Change{
				{"containerDefinitions[b].command[0]", "", `"x"`},
				{"containerDefinitions[b].image", "", `"i"`},
				{"containerDefinitions[b].name", "", `"b"`},
			},
		},
		"null entries count": {
			before: container(`"command":["a"]`), after: container(`"command":["a",null]`),
			want: []Change{{"containerDefinitions[web].command", "1 entries", "2 entries"}},
		},
		"secrets are not shown": {
			before: container(`"environment":[{"name":"DB_PASSWORD","value":"hunter2"},{"name":"URL","value":"pg://u:hunter2@h/"}],` +
				`"command":["--token=hunter2"],"logConfiguration":{"options":{"splunk-token":"hunter2"}},"adminPassword":{"is":["hunter2"]},"apiKey":1`),
			after: container(`"environment":[{"name":"DB_PASSWORD","value":"hunter3"},{"name":"URL","value":"pg://h/"}],"user":"u"`),
			want: []Change{
				{"containerDefinitions[web].adminPassword.is[0]", "***", ""},
				{"containerDefinitions[web].apiKey", "***", ""},
				{"containerDefinitions[web].command[0]", "***", ""},
				{"containerDefinitions[web].environment[DB_PASSWORD]", "***", "***"},
				{"containerDefinitions[web].environment[URL]", "***", `"pg://h/"`},
				{"containerDefinitions[web].logConfiguration.options.splunk-token", "***", ""},
				{"containerDefinitions[web].user", "", `"u"`},
			},
		},
		"where secrets lie is shown": {
			before: file(`{"name":"token-service","image":"a","secrets":[{"name":"DB_PASSWORD","valueFrom":"/prod/db"}],"repositoryCredentials":{"credentialsParameter":"arn:aws:secretsmanager:r:1:secret:x"}}`),
			after:  file(`{"name":"token-service","image":"b","secrets":[{"name":"DB_PASSWORD","valueFrom":"/test/db"}]}`),
			want: []Change{
				{"containerDefinitions[token-service].image", `"a"`, `"b"`},
				{"containerDefinitions[token-service].repositoryCredentials.credentialsParameter", `"arn:aws:secretsmanager:r:1:secret:x"`, ""},
				{"containerDefinitions[token-service].secrets[DB_PASSWORD]", `"/prod/db"`, `"/test/db"`},
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := parse(t, test.before), parse(t, test.after)
			if diff := cmp.Diff(before.Diff(after), test.want); diff != "" {
				t.Errorf("changes (-got +want):\n%s", diff)
			}
			want := len(test.want) == 0
			if before.Equal(after) != want || after.Equal(before) != want {
				t.Errorf("equal is %v, want %v", before.Equal(after), want)
			}
			if got, want := len(after.Diff(before)), len(test.want); got != want {
				t.Errorf("%d changes the other way, want %d", got, want)
			}
		})
	}
}

func TestDescribedAgainstItsFile(t *testing.T) {
	t.Parallel()
	running, err := Described([]byte(described))
	if err != nil {
		t.Fatal(err)
	}
	same := parse(t, registered)
	want := []Change{{
		"containerDefinitions[web].image",
		`"111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:1"`, `"111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:2@sha256:aa"`,
	}}
	if diff := cmp.Diff(running.Diff(same), want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
}
