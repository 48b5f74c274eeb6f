package step_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/emulator"
)

// otherRole is a role of a scenario's world, besides the one that it deploys with.
type otherRole struct {
	Name, Account string
	// Subject of GitHub's tokens, or AWS principal, that it trusts.
	Subject, AWS string
	// ExternalID is what it asks for, if anything; Tags lets sessions be tagged.
	ExternalID string
	Tags       bool
	// Max is its longest session in seconds.
	Max int
}

func (r otherRole) trust(cloud *emulator.Cloud) string {
	if r.Subject != "" {
		return strings.ReplaceAll(cloud.TrustGitHub(r.Subject), ":123456789012:", ":"+r.account()+":")
	}
	actions := []string{"sts:AssumeRole"}
	if r.Tags {
		actions = append(actions, "sts:TagSession")
	}
	statement := map[string]any{"Effect": "Allow", "Principal": map[string]string{"AWS": r.AWS}, "Action": actions}
	if r.ExternalID != "" {
		statement["Condition"] = map[string]any{"StringEquals": map[string]string{"sts:ExternalId": r.ExternalID}}
	}
	doc, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{statement}})
	if err != nil {
		panic(err) // strings always encode
	}
	return string(doc)
}

func (r otherRole) account() string {
	if r.Account == "" {
		return "123456789012"
	}
	return r.Account
}

// setCredentials carries out one line that is about who the step is.
func (w *world) setCredentials(t *testing.T, s *settings, word, value string) bool {
	t.Helper()
	decode := func(into any) {
		if err := json.Unmarshal([]byte(value), into); err != nil {
			t.Fatalf("world: %s %s: %v", word, value, err)
		}
	}
	switch word {
	case "deploy-role": // what the role to deploy with is like, an otherRole
		var r otherRole
		decode(&r)
		s.role.TrustPolicy, s.role.MaxSession = r.trust(w.cloud), time.Duration(r.Max)*time.Second
	case "role": // another one
		var r otherRole
		decode(&r)
		if _, err := w.cloud.AddRole(emulator.Role{
			Name: r.Name, Account: r.Account, TrustPolicy: r.trust(w.cloud), MaxSession: time.Duration(r.Max) * time.Second,
		}); err != nil {
			t.Fatal(err)
		}
	case "surroundings": // where the step runs, an emulator.Surroundings
		var around emulator.Surroundings
		decode(&around)
		w.cloud.Surround(around)
	case "session-limit": // bytes of policies and tags
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		w.cloud.LimitSession(n)
	case "job": // what ID tokens say, an emulator.Job
		var j emulator.Job
		decode(&j)
		w.cloud.SetJob(j)
	case "pace", "clock-ahead": // see duration
	default:
		return false
	}
	return true
}

// duration is the value of a line that the cloud is made with.
func duration(t *testing.T, lines, word string) time.Duration {
	t.Helper()
	for line := range strings.Lines(lines) {
		if first, value, _ := strings.Cut(strings.TrimSpace(line), " "); first == word {
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	return 0
}

// newEnvironment is that of a step that does everything with the inputs set,
// of which empty ones are none.
func newEnvironment(t *testing.T, set map[string]string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	workspace := filepath.Join(dir, "workspace")
	if err := os.MkdirAll(workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	env := environment(dir, workspace)
	inputs := defaults()
	maps.Copy(inputs, set)
	for name, value := range inputs {
		env["INPUT_"+strings.ToUpper(name)] = value
	}
	return env
}
