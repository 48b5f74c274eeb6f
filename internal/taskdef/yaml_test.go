package taskdef

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

func TestParseYAML(t *testing.T) {
	t.Parallel()
	const containers = "family: f\ncontainerDefinitions:\n- name: a\n"
	tests := map[string]struct{ text, want string }{
		"a whole one": {
			"# ours\nfamily: f\ncpu: 256\nmemory: 512\nnetworkMode: awsvpc\nrequiresCompatibilities: [FARGATE]\ncontainerDefinitions:\n  - name: a\n    image: x:1\n    cpu: 0\n    essential: true\n" +
				"    command: [sh, -c, 'echo \"$A\"', 3]\n    environment:\n      - {name: PORT, value: 0755}\n      - {name: ON, value: yes}\n      - name: EMPTY\n        value:\n      - name: TEXT\n        value: |\n          one\n          two\n" +
				"    dockerLabels: {a: 1.10, b: true}\n    portMappings: [{containerPort: 8080}]\n    futureField: {big: 12345678901234567890123, small: 1.50, e: -1.5e-300, no: null, date: 2026-01-02, yes: on}\n",
			`{"family":"f","cpu":"256","memory":"512","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"containerDefinitions":[{"name":"a","image":"x:1","cpu":0,"essential":true,` +
				`"command":["sh","-c","echo \"$A\"","3"],"environment":[{"name":"PORT","value":"0755"},{"name":"ON","value":"yes"},{"name":"EMPTY","value":""},{"name":"TEXT","value":"one\ntwo\n"}],` +
				`"dockerLabels":{"a":"1.10","b":"true"},"portMappings":[{"containerPort":8080}],"futureField":{"big":12345678901234567890123,"small":1.50,"e":-1.5e-300,"date":"2026-01-02","yes":"on"}}]}`,
		},
		"anchors and merges": {"x-env: &env\n  - {name: A, value: b}\nx-log: &log {logDriver: awslogs, options: {g: 1}}\n" + containers + "  environment: *env\n  logConfiguration:\n    <<: *log\n    logDriver: splunk\n", `{"x-env":[{"name":"A","value":"b"}],"x-log":{"logDriver":"awslogs","options":{"g":"1"}},` +
			`"family":"f","containerDefinitions":[{"name":"a","environment":[{"name":"A","value":"b"}],"logConfiguration":{"logDriver":"splunk","options":{"g":"1"}}}]}`},
		"JSON is YAML":  {`{"family": "f", "cpu": "256", "containerDefinitions": [{"name": "a", "x": [1.0, "1.0", "\u0061", null]}]}`, `{"family":"f","cpu":"256","containerDefinitions":[{"name":"a","x":[1.0,"1.0","a",null]}]}`},
		"described":     {"taskDefinition:\n  taskDefinitionArn: arn:x\n  revision: 3\n  family: f\n  cpu: 256\n  containerDefinitions: [{name: a}]\ntags: [{key: k, value: 1}]\n", `{"family":"f","cpu":"256","containerDefinitions":[{"name":"a"}],"tags":[{"key":"k","value":"1"}]}`},
		"tags of types": {containers + "  x: !!str 12\n  y: !!int 12\n", `{"family":"f","containerDefinitions":[{"name":"a","x":"12","y":12}]}`},
		"quoted":        {containers + "  x: '12'\n  y: \"tr\\u0075e\"\n  'null': ~\n", `{"family":"f","containerDefinitions":[{"name":"a","x":"12","y":"true"}]}`},
		"Windows lines": {"\ufefffamily: f\r\ncontainerDefinitions:\r\n- name: a\r\n  x: y\r\n", `{"family":"f","containerDefinitions":[{"name":"a","x":"y"}]}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := ParseYAML([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(request(t, d)), test.want); diff != "" {
				t.Errorf("request (-got +want):\n%s", diff)
			}
		})
	}
}

func TestParseYAMLMistakes(t *testing.T) {
	t.Parallel()
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		n := strconv.Itoa(i)
		bomb += "a" + strconv.Itoa(i+1) + ": &a" + strconv.Itoa(i+1) + " [*a" + n + strings.Repeat(", *a"+n, 8) + "]\n"
	}
	tests := map[string]struct {
		text string
		line int
		want string
	}{
		"empty":           {"# nothing\n", 1, "the file is empty"},
		"two documents":   {"family: f\n---\nfamily: g\n", 3, "a second document begins here"},
		"syntax":          {"family: f\ncontainerDefinitions: [\n", 2, "line 2"},
		"tabs":            {"family: f\ncontainerDefinitions:\n\t- name: a\n", 3, "line 3"},
		"member twice":    {"family: f\nfamily: g\n", 2, "family"},
		"no family":       {"containerDefinitions:\n- name: a\n", 1, "family is missing"},
		"no name":         {"family: f\ncontainerDefinitions:\n- image: é\n", 3, "line 3, column 3: containerDefinitions[0] has no name"},
		"two numbers":     {"family: f\ncontainerDefinitions:\n- name: a\n  portMappings: [{containerPort: 0755}]\n", 4, "0755 can be read as more than one number"},
		"not a number":    {"family: f\ncontainerDefinitions:\n- name: a\n  x: .nan\n", 4, ".nan can be read as more than one number"},
		"unknown tag":     {"family: !secret f\n", 1, "tag !secret has no meaning here"},
		"unknown anchor":  {"family: *f\n", 1, "f"},
		"a bomb":          {bomb, 0, "the aliases stand for too much"},
		"merge of a text": {"family: f\nx: {<<: y}\n", 2, ""},
		"not UTF-8":       {"family: \xff\n", 1, "not valid UTF-8"},
		"large":           {strings.Repeat("# much\n", 1<<18), 1, "more than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseYAML([]byte(test.text))
			known := problem.All("", err)
			if len(known) != 1 || known[0].Op != "read task definition" || known[0].Fix == "" {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), test.want) || test.line > 0 && known[0].Line != test.line {
				t.Errorf("got line %d: %v", known[0].Line, err)
			}
		})
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add("family: f\ncontainerDefinitions:\n- name: a\n  environment: [{name: A, value: 1}]\n")
	f.Add("a: &a [1]\nb: *a\n<<: {c: d}\n")
	f.Add("a: |\n  b\n c: >-\n d\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseYAML([]byte(text))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error says nothing")
			}
			return
		}
		body, err := d.Request()
		if err != nil {
			return
		}
		again, err := Parse(body)
		if err != nil {
			t.Fatalf("request cannot be read: %v\n%s", err, body)
		}
		if !d.Equal(again) {
			t.Errorf("read back, the document differs: %v", d.Diff(again))
		}
	})
}
