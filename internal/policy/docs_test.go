package policy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/policy"
)

var update = flag.Bool("update", false, "rewrite the policies in docs/iam.md")

// TestDocument writes the policies of docs/iam.md from the inputs that stand
// there. That they are right is held by TestPolicies of internal/step, which
// runs these steps with what it finds in the document.
func TestDocument(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "iam.md")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	tasks := map[string]*policy.Task{}
	for _, definition := range regexp.MustCompile("(?s)<!-- definition ?(\\S*) -->\n```json\n(.*?)```").FindAllStringSubmatch(text, -1) {
		for flow := range strings.SplitSeq(definition[1], "+") {
			if tasks[flow], err = policy.TaskOf([]byte(definition[2])); err != nil {
				t.Fatal(err)
			}
		}
	}
	sections := regexp.MustCompile("(?s)<!-- flow (\\S+) -->.*?```yaml\n(.*?)```\n.*?<!-- generated -->\n(.*?)<!-- /generated -->").FindAllStringSubmatchIndex(text, -1)
	if len(sections) < 20 {
		t.Fatalf("got %d flows, want at least 20", len(sections))
	}
	var out strings.Builder
	last := 0
	for _, at := range sections {
		name := text[at[2]:at[3]]
		facts := policy.Facts{Task: tasks[""], Source: source(name)}
		if own := tasks[name]; own != nil {
			facts.Task = own
		}
		switch name {
		case "bases":
			facts.Bases = []string{"123456789012.dkr.ecr.eu-central-1.amazonaws.com/base:1"}
		case "codedeploy-search":
			facts.CodeDeploy = &policy.Group{Application: "shop", Name: "blue-green", Config: "CodeDeployDefault.ECSAllAtOnce"}
		}
		plan := policy.For(settings(t, text[at[4]:at[5]]), facts)
		if len(plan.Unknown) > 0 {
			t.Errorf("%s: unknown: %q", name, plan.Unknown)
		}
		out.WriteString(text[last:at[6]])
		out.WriteString(blocks(name, plan))
		last = at[7]
	}
	out.WriteString(text[last:])
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(text, "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Errorf("docs/iam.md (got -, want +; go test ./internal/policy -update rewrites it):\n%s", diff)
	}
}

func source(flow string) policy.Source {
	s := policy.Source{Repository: "acme/shop"}
	switch flow {
	case "trust-environment":
		s.Environments, s.OwnerID, s.RepositoryID = []string{"production"}, "7001", "90210"
	case "trust-tags":
		s.Tags = []string{"v*"}
	default:
		s.Branches = []string{"main"}
	}
	return s
}

// settings parses the inputs of a `with:`.
func settings(t *testing.T, with string) inputs.Settings {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(with), &values); err != nil {
		t.Fatal(err)
	}
	s, err := inputs.Parse(func(name string) string {
		if value, given := values[name]; given {
			return fmt.Sprint(value)
		}
		return ""
	}, func(name string) string {
		return map[string]string{"GITHUB_SHA": "8f3ad1c0b6a94b7f0c3d5e9a1f2b4c6d8e0f1a2b", "GITHUB_REPOSITORY": "acme/shop"}[name]
	})
	if err != nil {
		t.Fatalf("%s: %v", with, err)
	}
	return s
}

// blocks is the generated part of one flow.
func blocks(flow string, plan policy.Plan) string {
	var b strings.Builder
	role := plan.Roles[len(plan.Roles)-1]
	if strings.HasPrefix(flow, "trust-") {
		return "\n<!-- json trust -->\n```json\n" + policy.JSON(role.Trust) + "```\n\n"
	}
	b.WriteString("\n<!-- json permissions -->\n```json\n" + policy.JSON(role.Permissions) + "```\n\n")
	for _, r := range plan.Repositories {
		fmt.Fprintf(&b, "The policy of the repository `%s` in account %s:\n\n<!-- json repository -->\n```json\n%s```\n\n", r.Name, r.Account, policy.JSON(r.Policy))
	}
	var table strings.Builder
	for _, s := range role.Permissions {
		if s.Loss != "" {
			fmt.Fprintf(&table, "| `%s` | %s |\n", s.Sid, s.Loss)
		}
	}
	if table.Len() > 0 {
		b.WriteString("| Without | this happens |\n|---|---|\n" + table.String() + "\n")
	}
	b.WriteString("<details>\n<summary>The role in Terraform</summary>\n\n```hcl\n" + plan.Terraform() + "```\n\n</details>\n\n")
	return b.String()
}
