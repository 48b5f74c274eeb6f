package taskdef

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

// described is an answer of DescribeTaskDefinition with fields that no SDK knows.
const described = `{
  "tags": [{"key": "team", "value": "a&b <c>"}],
  "futureTop": {"not": "ours"},
  "taskDefinition": {
    "taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:7",
    "family": "web", "revision": 7, "status": "ACTIVE",
    "requiresAttributes": [{"name": "ecs.capability.task-eni"}],
    "compatibilities": ["EC2", "FARGATE"],
    "registeredAt": 1.7e9, "registeredBy": "arn:aws:sts::111122223333:assumed-role/x/y",
    "deregisteredAt": 1.7e9, "deleteRequestedAt": 1700000000.001,
    "quantumMode": {"qubits": 12345678901234567890, "deep": [[{"status": "kept", "revision": 1.50}]]},
    "containerDefinitions": [
      {"name": "web", "image": "111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:1", "cpu": 0,
       "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}],
       "environment": [{"name": "B", "value": "\u003c"}, {"name": "A", "value": ""}],
       "mountPoints": [], "volumesFrom": [], "essential": true, "teleport": {"to": "<&>", "level": 1e2}},
      {"name": "log", "image": "public.ecr.aws/x/fluent-bit@sha256:00", "essential": false}
    ],
    "runtimePlatform": {"cpuArchitecture": "ARM64"}, "cpu": "256"
  }
}`

const registered = `{"family":"web",` +
	`"quantumMode":{"qubits":12345678901234567890,"deep":[[{"status":"kept","revision":1.50}]]},` +
	`"containerDefinitions":[{"name":"web","image":"111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:2@sha256:aa","cpu":0,` +
	`"portMappings":[{"containerPort":8080,"hostPort":8080,"protocol":"tcp"}],` +
	`"environment":[{"name":"B","value":"\u003c"},{"name":"A","value":""}],` +
	`"mountPoints":[],"volumesFrom":[],"essential":true,"teleport":{"to":"<&>","level":1e2}},` +
	`{"name":"log","image":"public.ecr.aws/x/fluent-bit@sha256:00","essential":false}],` +
	`"runtimePlatform":{"cpuArchitecture":"ARM64"},"cpu":"256",` +
	`"tags":[{"key":"team","value":"a&b <c>"}]}`

func TestInventedFutureFieldsSurvive(t *testing.T) {
	t.Parallel()
	readers := map[string]func([]byte) (Document, error){"described": Described, "file": Parse}
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := read([]byte(described))
			if err != nil {
				t.Fatal(err)
			}
			d, err = d.WithImages(map[string]string{
				"web": ImageReference("111122223333.dkr.ecr.eu-west-1.amazonaws.com/web", "2", "sha256:aa"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(request(t, d)), registered); diff != "" {
				t.Errorf("request (-got +want):\n%s", diff)
			}
		})
	}
}

func TestWhatADocumentSays(t *testing.T) {
	t.Parallel()
	d := parse(t, described)
	if got, want := d.Family(), "web"; got != want {
		t.Errorf("family is %q, want %q", got, want)
	}
	if got, want := d.CPUArchitecture(), "ARM64"; got != want {
		t.Errorf("architecture is %q, want %q", got, want)
	}
	want := []Container{
		{Name: "web", Image: "111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:1", Essential: true},
		{Name: "log", Image: "public.ecr.aws/x/fluent-bit@sha256:00"},
	}
	if diff := cmp.Diff(d.Containers(), want); diff != "" {
		t.Errorf("containers (-got +want):\n%s", diff)
	}
	if got := parse(t, file(`{"name":"a"}`)).CPUArchitecture(); got != "" {
		t.Errorf("architecture is %q, want none", got)
	}
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ file, want string }{
		"tags in a bare definition stay where they are": {
			file: `{"tags":[{"key":"a","value":"b"}],"family":"f","containerDefinitions":[{"name":"c"}]}`,
			want: `{"tags":[{"key":"a","value":"b"}],"family":"f","containerDefinitions":[{"name":"c"}]}`,
		},
		"empty tags beside a described definition are none": {
			file: `{"taskDefinition":{"family":"f","containerDefinitions":[{"name":"c"}]},"tags":[]}`,
			want: `{"family":"f","containerDefinitions":[{"name":"c"}]}`,
		},
		"null members are left out, other emptiness stays": {
			file: `{"family":"f","a":null,"b":"","c":[],"d":{"e":null},"f":[null],"containerDefinitions":[{"name":"c","image":null}]}`,
			want: `{"family":"f","b":"","c":[],"d":{},"f":[null],"containerDefinitions":[{"name":"c"}]}`,
		},
		"output-only members of a bare definition are left out": {
			file: `{"revision":1,"family":"f","status":"ACTIVE","containerDefinitions":[{"name":"c","status":"mine"}]}`,
			want: `{"family":"f","containerDefinitions":[{"name":"c","status":"mine"}]}`,
		},
		"byte order mark": {
			file: "\ufeff" + file(`{"name":"c"}`),
			want: file(`{"name":"c"}`),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(string(request(t, parse(t, test.file))), test.want); diff != "" {
				t.Errorf("request (-got +want):\n%s", diff)
			}
		})
	}
}

func TestParseMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file string
		line int
		want string
	}{
		"trailing comma": {
			file: "{\n  \"family\": \"f\",\n}", line: 3,
			want: `read task definition: input "task-definition": line 3, column 1: invalid character '}' looking for beginning of object key string. Correct the file at this place.`,
		},
		"cut off": {
			file: "{\"family\":\n\"f\"", line: 2,
			want: `read task definition: input "task-definition": line 2, column 3: unexpected end of JSON input. Correct the file at this place.`,
		},
		"column counts characters": {
			file: `{"é": }`, line: 1,
			want: `read task definition: input "task-definition": line 1, column 7: invalid character '}' looking for beginning of value. Correct the file at this place.`,
		},
		"YAML": {
			file: "family: web\n", line: 1,
			want: `read task definition: input "task-definition": line 1, column 3: invalid character 'm' in literal false (expecting 'l'). Give a JSON file: a task definition, or the output of ` + "`aws ecs describe-task-definition --include TAGS`. YAML is read from files that end in .yaml or .yml.",
		},
		"empty": {
			file: "", line: 1,
			want: `read task definition: input "task-definition": line 1, column 1: unexpected end of JSON input. Give a JSON file: a task definition, or the output of ` + "`aws ecs describe-task-definition --include TAGS`. YAML is read from files that end in .yaml or .yml.",
		},
		"two values": {
			file: "{}\n{}", line: 2,
			want: `read task definition: input "task-definition": line 2, column 1: invalid character '{' after top-level value. Correct the file at this place.`,
		},
		"a list": {
			file: "[]", line: 1,
			want: `read task definition: input "task-definition": line 1, column 1: a task definition is an object, this is a list. Give a JSON file: a task definition, or the output of ` + "`aws ecs describe-task-definition --include TAGS`. YAML is read from files that end in .yaml or .yml.",
		},
		"not UTF-8": {
			file: "{\n\"a\": \"\xff\"}", line: 2,
			want: `read task definition: input "task-definition": line 2, column 7: text is not valid UTF-8. Correct the file at this place.`,
		},
		"member twice": {
			file: "{\"family\": \"f\",\n \"family\": \"g\"}", line: 2,
			want: `read task definition: input "task-definition": line 2, column 2: member "family" appears twice. Correct the file at this place.`,
		},
		"no family": {
			file: `{"containerDefinitions": [{"name": "a"}]}`, line: 1,
			want: `read task definition: input "task-definition": line 1, column 1: family is missing: a task definition needs its name. Correct the file at this place.`,
		},
		"no containers": {
			file: "{\"family\": \"f\",\n \"containerDefinitions\": []}", line: 2,
			want: `read task definition: input "task-definition": line 2, column 26: containerDefinitions is not a list with at least one container. Correct the file at this place.`,
		},
		"container without a name": {
			file: file("{\"name\": \"a\"},\n {\"image\": \"b\"}"), line: 2,
			want: `read task definition: input "task-definition": line 2, column 2: containerDefinitions[1] has no name. Correct the file at this place.`,
		},
		"same name twice": {
			file: file("{\"name\": \"a\"},\n {\"name\": \"a\"}"), line: 2,
			want: `read task definition: input "task-definition": line 2, column 11: two containers have the name "a". Correct the file at this place.`,
		},
		"image is no string": {
			file: file(`{"name": "a", "image": 5}`), line: 1,
			want: `read task definition: input "task-definition": line 1, column 62: image of container "a" is a number, not a string. Correct the file at this place.`,
		},
		"taskDefinition is no object": {
			file: `{"taskDefinition": "web:7"}`, line: 1,
			want: `read task definition: input "task-definition": line 1, column 20: taskDefinition is a string, not an object. Correct the file at this place.`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(test.file))
			fault, ok := errors.AsType[*problem.Error](err)
			if !ok {
				t.Fatalf("error is %v, want a problem", err)
			}
			if diff := cmp.Diff(fault.Error(), test.want); diff != "" {
				t.Errorf("message (-got +want):\n%s", diff)
			}
			if fault.Line != test.line {
				t.Errorf("line is %d, want %d", fault.Line, test.line)
			}
		})
	}
}

func TestDescribedMistakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ answer, want string }{
		"not JSON": {`<html>`, "answer of DescribeTaskDefinition: invalid character '<' looking for beginning of value"},
		"empty":    {`{}`, "answer of DescribeTaskDefinition: there is no taskDefinition in it"},
		"a list":   {`[1]`, "answer of DescribeTaskDefinition: there is no taskDefinition in it"},
		"hollow":   {`{"taskDefinition":{}}`, "answer of DescribeTaskDefinition: family is missing: a task definition needs its name"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Described([]byte(test.answer))
			if got := fmt.Sprint(err); got != test.want {
				t.Errorf("error is %q, want %q", got, test.want)
			}
		})
	}
}

func TestWithImages(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		images        map[string]string
		want, wantErr string
	}{
		"none": {
			want: file(`{"name":"a","image":"x","z":1},{"name":"b"}`),
		},
		"replaced in its place, HTML characters as they are": {
			images: map[string]string{"a": "h/<r>&:1"},
			want:   file(`{"name":"a","image":"h/<r>&:1","z":1},{"name":"b"}`),
		},
		"added where there is none": {
			images: map[string]string{"a": "1", "b": "2"},
			want:   file(`{"name":"a","image":"1","z":1},{"name":"b","image":"2"}`),
		},
		"unknown container": {
			images:  map[string]string{"a": "1", "c": "2"},
			wantErr: `render task definition: input "container-name" is "c": task definition f has no such container. Use one that exists: a, b.`,
		},
		"no image": {
			images:  map[string]string{"a": ""},
			wantErr: `render task definition: input "image": no image for container "a". Give an image reference.`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := parse(t, file(`{"name":"a","image":"x","z":1},{"name":"b"}`))
			before := string(request(t, base))
			d, err := base.WithImages(test.images)
			if got := message(err); got != test.wantErr {
				t.Fatalf("error is %q, want %q", got, test.wantErr)
			}
			if after := string(request(t, base)); after != before {
				t.Errorf("the base changed from %s to %s", before, after)
			}
			if test.wantErr != "" {
				return
			}
			if diff := cmp.Diff(string(request(t, d)), test.want); diff != "" {
				t.Errorf("request (-got +want):\n%s", diff)
			}
		})
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	const one = `{"name":"a"}`
	const three = `{"name":"a","image":"host:5000/app:1"},{"name":"b","image":"host:5000/app/b@sha256:1"},{"name":"c","image":"host:5000/app/b:1@sha256:1"}`
	tests := map[string]struct {
		containers, name, repository, want string
		wantErr                            string
		wantDetail                         []string
	}{
		"by name":         {containers: three, name: "c", repository: "host:5000/app", want: "c"},
		"the only one":    {containers: one, repository: "other", want: "a"},
		"same repository": {containers: three, repository: "host:5000/app", want: "a"},
		"unknown name": {
			containers: three, name: "x",
			wantErr: `render task definition: input "container-name" is "x": task definition f has no such container. Use one that exists: a, b, c.`,
		},
		"other repository": {
			containers: three, repository: "host:5000/other",
			wantErr:    `choose container: input "container-name": none of the 3 containers of task definition f has an image of repository "host:5000/other". Set container-name to one of: a, b, c.`,
			wantDetail: []string{"container a  image host:5000/app:1", "container b  image host:5000/app/b@sha256:1", "container c  image host:5000/app/b:1@sha256:1"},
		},
		"two of the repository": {
			containers: three, repository: "host:5000/app/b",
			wantErr:    `choose container: input "container-name": containers b, c of task definition f all have an image of repository "host:5000/app/b". Set container-name to one of: a, b, c.`,
			wantDetail: []string{"container a  image host:5000/app:1", "container b  image host:5000/app/b@sha256:1", "container c  image host:5000/app/b:1@sha256:1"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(t, file(test.containers)).Pick(test.name, test.repository)
			if message(err) != test.wantErr || got != test.want {
				t.Fatalf("picked %q, %q; want %q, %q", got, message(err), test.want, test.wantErr)
			}
			if fault, ok := errors.AsType[*problem.Error](err); ok {
				if diff := cmp.Diff(fault.Detail, test.wantDetail); diff != "" {
					t.Errorf("detail (-got +want):\n%s", diff)
				}
			}
		})
	}
}

func TestRequestTooLarge(t *testing.T) {
	t.Parallel()
	sized := func(n int) string {
		rest := len(file(`{"name":"a","image":""}`))
		return file(`{"name":"a","image":"` + strings.Repeat("x", n-rest) + `"}`)
	}
	if got := len(request(t, parse(t, "\n\n"+sized(64<<10)))); got != 64<<10 {
		t.Errorf("request has %d bytes, want 65536", got)
	}
	_, err := parse(t, sized(64<<10+1)).Request()
	want := `check task definition f: input "task-definition": its JSON has 65537 bytes, ECS takes at most 65536. ` +
		`The largest parts: image of container a: 65476, name of container a: 3, family: 3. Move long values into files in S3 (input env-files), into secrets, or into the image.`
	if got := message(err); got != want {
		t.Errorf("error is %q, want %q", got, want)
	}
}

func TestImageReference(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ repo, tag, digest, want string }{
		"all":       {"h:5/r", "t", "sha256:a", "h:5/r:t@sha256:a"},
		"no tag":    {"h:5/r", "", "sha256:a", "h:5/r@sha256:a"},
		"no digest": {"h:5/r", "t", "", "h:5/r:t"},
		"bare":      {"h:5/r", "", "", "h:5/r"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ImageReference(test.repo, test.tag, test.digest)
			if got != test.want {
				t.Errorf("reference is %q, want %q", got, test.want)
			}
			if back := Repository(got); back != test.repo {
				t.Errorf("repository of %q is %q, want %q", got, back, test.repo)
			}
		})
	}
}

// file is a bare definition of the family f with these containers.
func file(containers string) string {
	return `{"family":"f","containerDefinitions":[` + containers + `]}`
}

func parse(t *testing.T, text string) Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func request(t *testing.T, d Document) []byte {
	t.Helper()
	body, err := d.Request()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(body) {
		t.Fatalf("request is not JSON: %s", body)
	}
	return body
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
