package taskdef

import (
	"strconv"
	"strings"
	"testing"

	"github.com/towline/towline/internal/problem"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	many := func(n int, each func(i string) string) string {
		var all []string
		for i := range n {
			all = append(all, each(strconv.Itoa(i)))
		}
		return strings.Join(all, ",")
	}
	tests := map[string]struct {
		text string
		want []string
	}{
		"right":          {file(`{"name":"a","image":"x","cpu":10,"environment":[{"name":"A","value":""},{"name":"B"}]},{"name":"b","image":"x","essential":false}`), nil},
		"many":           {file(many(11, func(i string) string { return `{"name":"c` + i + `","image":"x"}` })), []string{`it has 11 containers, ECS takes at most 10`}},
		"no image":       {file(`{"name":"a"}`), []string{`input "container-name": container a has no image`}},
		"none essential": {file(`{"name":"a","image":"x","essential":false}`), []string{"none of its containers is essential"}},
		"numbers": {`{"family":"f","cpu":256,"memory":"512","containerDefinitions":[{"name":"a","image":"x","environment":[{"name":"PORT","value":8080},{"name":"ON","value":true}]}]}`, []string{
			`cpu is a number, ECS takes a string there. Write "cpu": "256".`,
			`environment PORT of container a is a number, ECS takes a string there. Put it in quotes.`, `environment ON of container a is true or false`,
		}},
		"variable and secret": {file(`{"name":"a","image":"x","environment":[{"name":"DB","value":"hunter2"}],"secrets":[{"name":"DB","valueFrom":"arn"}]}`), []string{"DB stands twice in container a, in environment and in secrets. Keep one"}},
		"files":               {file(`{"name":"a","image":"x","environmentFiles":[` + many(11, func(string) string { return `{}` }) + `]}`), []string{"has 11 environment files, ECS takes at most 10"}},
		"tags":                {`{"family":"f","tags":[` + many(51, func(i string) string { return `{"key":"` + i + `"}` }) + `],"containerDefinitions":[{"name":"a","image":"x"}]}`, []string{"it has 51 tags"}},
		"size": {file(`{"name":"a","image":"x","environment":[{"name":"A","value":"` + strings.Repeat("hunter2", 10000) + `"}],"command":["b"]}`), []string{
			`its JSON has 70120 bytes, ECS takes at most 65536. The largest parts: environment of container a: 70025, command of container a: 5, `,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := problem.All("", parse(t, test.text).Check())
			for i, p := range got {
				if i >= len(test.want) || !strings.Contains(p.Error(), test.want[i]) {
					t.Errorf("mistake %d: got %s", i, p)
				}
				if p.Op != "check task definition f" || p.Input == "" || p.Fix == "" || strings.Contains(p.Error(), "hunter2") {
					t.Errorf("not as it should be: %+v", p)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("got %d mistakes, want %q", len(got), test.want)
			}
		})
	}
}
