package inputs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

func TestTask(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  values
		task func(*Task)
		run  func(*RunTask)
	}{
		"YAML": {set: values{"task-definition": "td.yml", "image": "x"}, task: func(w *Task) {
			w.TaskDefinition, w.Image = "/github/workspace/td.yml", "x"
		}},
		"ARN": {set: values{"task-definition-arn": "arn:aws-cn:ecs:eu-central-1:123456789012:task-definition/web:7"}, task: func(w *Task) {
			w.Registered = "arn:aws-cn:ecs:eu-central-1:123456789012:task-definition/web:7"
		}},
		"family":              {set: values{"task-definition-family": "web"}, task: func(w *Task) { w.Registered = "web" }},
		"family and revision": {set: values{"task-definition-family": "web", "task-definition-revision": "12"}, task: func(w *Task) { w.Registered = "web:12" }},
		"several containers": {set: values{"image": "x", "container-name": "a, b\nc\na"}, task: func(w *Task) {
			w.Image, w.ContainerNames = "x", []string{"a", "b", "c"}
		}},
		"several images": {set: values{"image": "app = r.example/a:1\nproxy=envoy@sha256:" + strings.Repeat("0", 64)}, task: func(w *Task) {
			w.Images = []Pair{{"app", "r.example/a:1"}, {"proxy", "envoy@sha256:" + strings.Repeat("0", 64)}}
		}},
		"an image beside a build": {set: values{"image": "proxy=envoy:1", "repository": "shop", "tags": "v1"}, task: func(w *Task) {
			w.Images = []Pair{{"proxy", "envoy:1"}}
		}},
		"settings of a container": {
			set: values{
				"environment-variables": "URL=http://x/?a=b&c=d\nEMPTY=\nPATH_OF=/home/runner/work/r/r/x\n\"TEXT=one\ntwo\"", "remove-environment-variables": "OLD, OLDER",
				"container-secrets": "DB=arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf:password::", "remove-secrets": "TOKEN",
				"env-files": "arn:aws:s3:::bucket/a.env\narn:aws:s3:::bucket/dir/b.env", "log-configuration-log-driver": "awslogs",
				"log-configuration-options": "awslogs-group=/a=b\nmode=non-blocking", "docker-labels": "a.b=c=d", "command": `sh -c 'echo "$A" b'`,
				"task-role-arn": "arn:aws-eusc:iam::123456789012:role/x/y", "execution-role-arn": "runner", "task-definition-tags": "team=shop\na:b=c d", "keep-revisions": "5",
			},
			task: func(w *Task) {
				w.Environment = []Pair{{"URL", "http://x/?a=b&c=d"}, {"EMPTY", ""}, {"PATH_OF", "/home/runner/work/r/r/x"}, {"TEXT", "one\ntwo"}}
				w.RemoveEnvironment, w.RemoveSecrets = []string{"OLD", "OLDER"}, []string{"TOKEN"}
				w.ContainerSecrets = []Pair{{"DB", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf:password::"}}
				w.EnvFiles, w.LogConfigurationLogDriver = []string{"arn:aws:s3:::bucket/a.env", "arn:aws:s3:::bucket/dir/b.env"}, "awslogs"
				w.LogConfigurationOptions, w.DockerLabels = []Pair{{"awslogs-group", "/a=b"}, {"mode", "non-blocking"}}, []Pair{{"a.b", "c=d"}}
				w.Command, w.TaskRoleARN, w.ExecutionRoleARN = []string{"sh", "-c", `echo "$A" b`}, "arn:aws-eusc:iam::123456789012:role/x/y", "runner"
				w.TaskDefinitionTags, w.KeepRevisions = []Pair{{"team", "shop"}, {"a:b", "c d"}}, 5
			},
		},
		"tags as JSON": {set: values{"task-definition-tags": `[{"key": "a", "value": "b"}]`}, task: func(w *Task) { w.TaskDefinitionTags = []Pair{{"a", "b"}} }},
		"run-task": {
			set: values{
				"run-task": "true", "run-task-container": "app", "run-task-command": `["migrate", "--up", ""]`, "run-task-environment-variables": "A=b",
				"run-task-container-overrides": ` [{"name": "proxy", "cpu": 10}] `, "run-task-subnets": "subnet-1, subnet-2", "run-task-security-groups": "sg-1\nsg-2",
				"run-task-assign-public-IP": "enabled", "run-task-capacity-provider-strategy": `[{"capacityProvider": "FARGATE_SPOT"}]`, "run-task-platform-version": "1.4.0",
				"run-task-started-by": "ci", "run-task-tags": "a=b", "run-task-managed-ebs-volume-name": "data", "run-task-managed-ebs-volume": `{"roleArn": "arn:aws:iam::1:role/x"}`,
				"wait-for-task-stopped": "false",
			},
			run: func(w *RunTask) {
				*w = RunTask{
					Run: true, Container: "app", Command: []string{"migrate", "--up", ""}, Environment: []Pair{{"A", "b"}}, ContainerOverrides: []byte(`[{"name": "proxy", "cpu": 10}]`),
					Subnets: []string{"subnet-1", "subnet-2"}, SecurityGroups: []string{"sg-1", "sg-2"}, AssignPublicIP: "ENABLED", PlatformVersion: "1.4.0",
					CapacityProviderStrategy: []byte(`[{"capacityProvider": "FARGATE_SPOT"}]`), StartedBy: "ci", Tags: []Pair{{"a", "b"}},
					ManagedEBSVolumeName: "data", ManagedEBSVolume: []byte(`{"roleArn": "arn:aws:iam::1:role/x"}`),
				}
			},
		},
		"upstream's empty defaults": {set: values{"run-task-container-overrides": "[]", "run-task-tags": "[]", "run-task-capacity-provider-strategy": "[ ]", "image": "x"}, task: func(w *Task) { w.Image = "x" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.set["service"] == "" {
				test.set["service"] = "web"
			}
			got, err := Parse(test.set.get, job().get)
			if err != nil {
				t.Fatal(err)
			}
			wantTask, wantRun := Task{}, RunTask{StartedBy: "towline-77-2", WaitForTaskStopped: true}
			if test.task != nil {
				test.task(&wantTask)
			}
			if test.run != nil {
				test.run(&wantRun)
			}
			if diff := cmp.Diff(got.Task, wantTask); diff != "" {
				t.Errorf("task (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(got.RunTask, wantRun); diff != "" {
				t.Errorf("run-task (-got +want):\n%s", diff)
			}
		})
	}
}

func TestTaskMistakes(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	tests := map[string]struct {
		set  values
		want []string
	}{
		"ARN as a file":       {values{"task-definition": "arn:aws:ecs:eu-central-1:123456789012:task-definition/a:1"}, []string{`Put an ARN into "task-definition-arn"`}},
		"family as a file":    {values{"task-definition": "web:3"}, []string{`Put a family into "task-definition-family"`}},
		"no ARN":              {values{"task-definition-arn": "web:3"}, []string{"not the ARN of a task definition"}},
		"ARN elsewhere":       {values{"task-definition-arn": "arn:aws:ecs:us-east-1:123456789012:task-definition/a:1"}, []string{"not in the region eu-central-1"}},
		"revision alone":      {values{"task-definition-revision": "3", "image": "x"}, []string{"a revision of what?"}},
		"family with one":     {values{"task-definition-family": "web:3"}, []string{"not a family"}},
		"two bases":           {values{"task-definition-family": "web", "task-definition": "a.json"}, []string{`Keep one of "task-definition" and "task-definition-family"`}},
		"container":           {values{"image": "x", "container-name": "a b"}, []string{"not the name of a container"}},
		"two images":          {values{"image": "a\nb"}, []string{"line 1 does not say", "line 2 does not say"}},
		"image twice":         {values{"image": "a=x\na=y"}, []string{`container "a" twice`}},
		"image of what":       {values{"image": "a=x y"}, []string{"could not parse reference"}},
		"variable":            {values{"environment-variables": "A=b\n" + secret}, []string{"line 2: there is no ="}},
		"variable twice":      {values{"environment-variables": "A=" + secret + "\nA=c"}, []string{`lines 1 and 2: "A" twice`}},
		"variable and secret": {values{"environment-variables": "A=" + secret, "container-secrets": "A=arn"}, []string{`is also in "environment-variables"`}},
		"set and removed":     {values{"environment-variables": "A=" + secret, "remove-environment-variables": "A"}, []string{`is also in "environment-variables"`}},
		"secret without":      {values{"container-secrets": "A="}, []string{"does not say where the secret is"}},
		"env-file":            {values{"env-files": "s3://x/y.env"}, []string{"not the ARN of an .env file"}},
		"driver":              {values{"log-configuration-log-driver": "cloudwatch"}, []string{"not a log driver"}},
		"open quote":          {values{"command": "sh -c 'x"}, []string{"a single quote is not closed"}},
		"open double quote":   {values{"command": `sh -c "x`}, []string{"a double quote is not closed"}},
		"numbers in JSON":     {values{"command": `["sleep", 3]`}, []string{"something else than strings"}},
		"role":                {values{"task-role-arn": "arn:aws:iam::1:role/x"}, []string{"neither the ARN nor the name of a role"}},
		"tag of AWS":          {values{"task-definition-tags": "aws:x=y"}, []string{"AWS's own"}},
		"tags":                {values{"task-definition-tags": `[{"key": 1}]`}, []string{"Write lines of KEY=value"}},
		"revisions":           {values{"keep-revisions": "0", "image": "x"}, []string{"not between 1 and 10000"}},
		"overrides":           {values{"run-task": "true", "run-task-container-overrides": `{"name": "x"}`}, []string{"not JSON of that form"}},
		"overrides' name":     {values{"run-task": "true", "run-task-container-overrides": `[{"command": ["x"]}]`}, []string{"entry 1 has no name"}},
		"JSON":                {values{"run-task": "true", "run-task-container-overrides": `[{"name": "x"]`}, []string{"character 14"}},
		"two commands":        {values{"run-task": "true", "run-task-command": "a", "run-task-container-overrides": `[{"name": "x", "command": ["b"]}]`}, []string{"have a command for container \"x\" too"}},
		"subnets":             {values{"run-task": "true", "run-task-subnets": "vpc-1"}, []string{"Write IDs such as subnet-"}},
		"public address":      {values{"run-task": "true", "run-task-assign-public-IP": "yes"}, []string{"Write one of ENABLED, DISABLED"}},
		"launch twice":        {values{"run-task": "true", "run-task-launch-type": "EC2", "run-task-capacity-provider-strategy": `[{"capacityProvider": "x"}]`}, []string{"not both"}},
		"platform version":    {values{"run-task": "true", "run-task-platform-version": "new"}, []string{"not a platform version"}},
		"started by":          {values{"run-task": "true", "run-task-started-by": "me & you"}, []string{"not up to 128"}},
		"volume":              {values{"run-task": "true", "run-task-managed-ebs-volume": `{"roleArn": "x"}`}, []string{"Name the volume"}},
		"volume's name":       {values{"run-task": "true", "run-task-managed-ebs-volume-name": "x"}, []string{"Write the volume's settings"}},
		"task of nothing":     {values{"run-task": "true", "service": "-"}, []string{"no task definition to run a task of"}},
		"changes of nothing":  {values{"command": "x", "service": "-"}, []string{"no task definition to change"}},
		"nothing at all":      {values{"keep-revisions": "3"}, []string{"there is nothing to deploy to it"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.set["service"] == "" {
				test.set["service"] = "web"
			} else {
				delete(test.set, "service")
			}
			_, err := Parse(test.set.get, job().get)
			got := problem.All("", err)
			for i, p := range got {
				if strings.Contains(p.Error(), secret) {
					t.Errorf("a value shows: %s", p)
				}
				if p.Op == "" || p.Input == "" || p.Fix == "" {
					t.Errorf("not whole: %+v", p)
				}
				if i >= len(test.want) || !strings.Contains(p.Error(), test.want[i]) {
					t.Errorf("mistake %d: got %s", i, p)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("got %d mistakes, want %q", len(got), test.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want []string
	}{
		"plain":            {"npm  run\tmigrate\n--all", []string{"npm", "run", "migrate", "--all"}},
		"nothing":          {"  ", nil},
		"single quotes":    {`sh -c 'echo "a b" \n $X'`, []string{"sh", "-c", `echo "a b" \n $X`}},
		"double quotes":    {`sh -c "echo \"a\" \$X \n"`, []string{"sh", "-c", `echo "a" $X \n`}},
		"empty words":      {`a '' "" b`, []string{"a", "", "", "b"}},
		"joined":           {`--x='a b'"c"d`, []string{"--x=a bcd"}},
		"backslashes":      {`a\ b \\ \'`, []string{"a b", `\`, "'"}},
		"line joined":      {"a \\\n b", []string{"a", "b"}},
		"other languages":  {`echo 'größe' Ж`, []string{"echo", "größe", "Ж"}},
		"JSON":             {`["sh", "-c", "", "a b"]`, []string{"sh", "-c", "", "a b"}},
		"test, not JSON":   {`[ -f x ]`, []string{"[", "-f", "x", "]"}},
		"hash, not a note": {`a # b`, []string{"a", "#", "b"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := words(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("words (-got +want):\n%s", diff)
			}
		})
	}
}
