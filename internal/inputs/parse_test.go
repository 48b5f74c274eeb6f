package inputs

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/problem"
)

// values are inputs or variables by name.
type values map[string]string

func (v values) get(name string) string { return v[name] }

// job is the environment of a step on GitHub.
func job() values {
	return values{
		"GITHUB_WORKSPACE": "/github/workspace", "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
		"GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "2", "AWS_REGION": "eu-central-1",
		"NPM_TOKEN": "npm-secret", "HTTP_VERSION": "2",
	}
}

// defaults is what no input at all means.
func defaults() Settings {
	return Settings{
		Workspace: "/github/workspace",
		Credentials: Credentials{
			AWSRegion: "eu-central-1", RoleSessionName: "towline-77-2", RoleDuration: time.Hour, Attempts: 12, SessionTags: workflow(),
		},
		Registry: Registry{RegistryCredentials: map[string]Login{}, RegistryMirrors: map[string]string{}},
		Build: Build{
			Context: "/github/workspace", File: "/github/workspace/Dockerfile", Platforms: []string{"linux/" + runtime.GOARCH}, Sandbox: "auto", Call: "build", Compression: Compression{Kind: "gzip"},
			Contexts: map[string]string{}, SSH: map[string]SSHKeys{}, GitHubHost: "github.com", BuildArgs: map[string]string{}, Labels: map[string]string{}, Secrets: map[string][]byte{}, SecretFiles: map[string]string{},
		},
		RunTask:    RunTask{StartedBy: "towline-77-2", WaitForTaskStopped: true},
		Deployment: Deployment{Cluster: "default", WaitForServiceStability: true, WaitFor: 30 * time.Minute, RollbackOnFailure: true, MaxRetries: 7, MaxParallel: 10},
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  values
		want func(*Settings)
	}{
		"nothing": {values{}, func(*Settings) {}},
		"the whole job": {values{
			"role-to-assume": "arn:aws:iam::123456789012:role/ci/deploy", "role-duration-seconds": "900", "role-session-name": "my session/1",
			"repository": "team/app", "tags": "v1, latest\nghcr.io/o/app:v1\nv1", "service": "web", "cluster": "prod",
			"wait-for-minutes": "5", "wait-for-service-stability": "FALSE", "rollback-on-failure": "False",
			"container-name": "web", "task-definition": "deploy/td.json",
		}, func(s *Settings) {
			s.Credentials.RolesToAssume = []string{"arn:aws:iam::123456789012:role/ci/deploy"}
			s.Credentials.RoleDuration, s.Credentials.RoleSessionName = 15*time.Minute, "my-session-1"
			app := Repository{Name: "team/app"}
			s.Registry.Repository = app
			s.Build.Tags = []Tag{{app, "v1"}, {app, "latest"}, {Repository{"ghcr.io", "o/app"}, "v1"}}
			s.Build.Push = true
			s.Task = Task{TaskDefinition: "/github/workspace/deploy/td.json", ContainerNames: []string{"web"}}
			s.Deployment = Deployment{Cluster: "prod", Service: "web", WaitFor: 5 * time.Minute, MaxRetries: 7, MaxParallel: 10}
		}},
		"the commit is the tag": {values{"repository": "app"}, func(s *Settings) {
			s.Registry.Repository = Repository{Name: "app"}
			s.Build.Tags = []Tag{{Repository{Name: "app"}, "0123456789ab"}}
			s.Build.Push = true
		}},
		"tagged, not pushed": {values{"tags": "ghcr.io/o/app", "push": "false"}, func(s *Settings) {
			s.Build.Tags = []Tag{{Repository{"ghcr.io", "o/app"}, "latest"}}
		}},
		"an image, not built": {values{"image": "public.ecr.aws/nginx/nginx@sha256:" + strings.Repeat("a", 64), "service": "web", "repository": "app"}, func(s *Settings) {
			s.Registry.Repository = Repository{Name: "app"}
			s.Task.Image = "public.ecr.aws/nginx/nginx@sha256:" + strings.Repeat("a", 64)
			s.Deployment.Service = "web"
		}},
		"a task definition as it stands": {values{"task-definition": "td.json", "service": "web"}, func(s *Settings) {
			s.Task.TaskDefinition = "/github/workspace/td.json"
			s.Deployment.Service = "web"
		}},
		"build": {values{
			"context": "app", "file": "docker/Dockerfile.prod", "target": "run", "platforms": "linux/aarch64", "sandbox": "in-place",
			"build-args": "VERSION=1=2\n HTTP_VERSION\nNOT_SET\n\"MULTI=a\n\"\"b\"\"\"\nEMPTY=", "labels": "a=b,c\nd",
			"secrets": "token=x=y,z\n\"pem=-----BEGIN\nabc\n-----END\"", "secret-envs": "npm=NPM_TOKEN, other=HTTP_VERSION", "secret-files": "cfg=conf/x\nabs=/run/y",
		}, func(s *Settings) {
			s.Build.Context, s.Build.File = "/github/workspace/app", "/github/workspace/docker/Dockerfile.prod"
			s.Build.Target, s.Build.Platforms, s.Build.Sandbox = "run", []string{"linux/arm64"}, SandboxInPlace
			s.Build.BuildArgs = map[string]string{"VERSION": "1=2", "HTTP_VERSION": "2", "MULTI": "a\n\"b\"", "EMPTY": ""}
			s.Build.Labels = map[string]string{"a": "b,c", "d": ""}
			s.Build.Secrets = map[string][]byte{
				"token": []byte("x=y,z"), "pem": []byte("-----BEGIN\nabc\n-----END"), "npm": []byte("npm-secret"), "other": []byte("2"),
			}
			s.Build.SecretFiles = map[string]string{"cfg": "/github/workspace/conf/x", "abs": "/run/y"}
		}},
		"Dockerfile in the context": {values{"context": "a/b/"}, func(s *Settings) {
			s.Build.Context, s.Build.File = "/github/workspace/a/b", "/github/workspace/a/b/Dockerfile"
		}},
		"host paths": {values{
			"context": "/home/runner/work/r/r/app", "file": "/opt/actions/_work/my.repo/my.repo/Dockerfile", "build-args": "DIR=/__w/r/r\nPATHS=/a:/home/runner/work/r/r/b:/home/runner/work/r/s/c",
			"secrets": "p=/home/runner/work/r/r", "secret-files": "f=/home/runner/work/r/r/f",
		}, func(s *Settings) {
			s.Build.Context, s.Build.File = "/github/workspace/app", "/github/workspace/Dockerfile"
			s.Build.BuildArgs = map[string]string{"DIR": "/github/workspace", "PATHS": "/a:/github/workspace/b:/home/runner/work/r/s/c"}
			s.Build.Secrets["p"] = []byte("/home/runner/work/r/r")
			s.Build.SecretFiles["f"] = "/github/workspace/f"
		}},
		"registries": {values{
			"registry-credentials": "docker.io=me:a:b=c\nhttps://ghcr.io=you:z", "registry-mirrors": "docker.io=123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub/\nquay.io=localhost:5000",
		}, func(s *Settings) {
			s.Registry.RegistryCredentials = map[string]Login{"index.docker.io": {User: "me", Password: "a:b=c"}, "ghcr.io": {User: "you", Password: "z"}}
			s.Registry.RegistryMirrors = map[string]string{
				"index.docker.io": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub", "quay.io": "localhost:5000",
			}
		}},
		"an ARN shows the cluster": {values{"service": "arn:aws:ecs:eu-central-1:123456789012:service/prod/web", "image": "nginx"}, func(s *Settings) {
			s.Deployment.Service, s.Deployment.Cluster = "arn:aws:ecs:eu-central-1:123456789012:service/prod/web", "prod"
			s.Task.Image = "nginx"
		}},
		"an audience": {values{"aws-region": "cn-north-1", "audience": "me"}, func(s *Settings) {
			s.Credentials.AWSRegion, s.Credentials.Audience = "cn-north-1", "me"
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(test.set.get, job().get)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults()
			test.want(&want)
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("settings (-got +want):\n%s", diff)
			}
		})
	}
}

func TestParseMistakes(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-very-secret"
	tests := map[string]struct {
		set   values
		unset []string // of the environment
		want  []string // one for each mistake, in order
	}{
		"booleans":          {set: values{"push": "yes", "rollback-on-failure": "0"}, want: []string{`"push" is "yes"`, `"rollback-on-failure" is "0"`}},
		"numbers":           {set: values{"role-duration-seconds": "1h", "wait-for-minutes": "1441"}, want: []string{`from 900 to 43200`, `"1441": not between 1 and 1440`}},
		"region":            {set: values{"aws-region": "us-east-1a"}, want: []string{`"aws-region" is "us-east-1a": not a region`}},
		"no region":         {set: values{"repository": "app"}, unset: []string{"AWS_REGION"}, want: []string{`input "aws-region": empty`}},
		"region of an ARN":  {set: values{"image": "x", "service": "arn:aws:ecs:us-east-1:123456789012:service/web"}, want: []string{`Set "aws-region" to us-east-1`}},
		"role":              {set: values{"role-to-assume": "arn:aws:iam::1:user/x"}, want: []string{"ARN nor the name of a role"}},
		"half a key":        {set: values{"aws-access-key-id": secret}, want: []string{`"aws-secret-access-key": empty`}},
		"the other half":    {set: values{"aws-secret-access-key": secret}, want: []string{`"aws-access-key-id": empty`}},
		"token alone":       {set: values{"aws-session-token": secret}, want: []string{`"aws-session-token" is set`}},
		"key of two lines":  {set: values{"aws-access-key-id": "AKID", "aws-secret-access-key": secret + "\n" + secret}, want: []string{`"aws-secret-access-key": several lines`}},
		"repository":        {set: values{"repository": "Team/App"}, want: []string{`"Team/App" is not a repository name`}},
		"repository:tag":    {set: values{"repository": "ghcr.io/a/b:c"}, want: []string{`tags belong in "tags"`}},
		"no commit":         {set: values{"repository": "app"}, unset: []string{"GITHUB_SHA"}, want: []string{`Set "tags"`}},
		"credentials":       {set: values{"registry-credentials": "ghcr.io=" + secret + "\nghcr=a:b\n=" + secret + ":a\na.b=x:y\na.b=z:" + secret + "\ndocker.io=a:b\nindex.docker.io=c:" + secret}, want: []string{"line 1: no user", "line 2: not the address", "line 3: nothing before", `"a.b" twice`, "line 7: index.docker.io twice"}},
		"open quote":        {set: values{"secrets": "a=b\n\"c=" + secret}, want: []string{"line 2: a double quote is not closed"}},
		"mirrors":           {set: values{"registry-mirrors": "docker.io=mirror\nquay.io=m.example/Up"}, want: []string{"mirror of index.docker.io: not the address", "mirror of quay.io"}},
		"context":           {set: values{"context": "oci-layout://x"}, want: []string{"not a context"}},
		"heredoc":           {set: values{"file": "FROM scratch\nRUN x"}, want: []string{`"file" is "FROM scratch\nRUN x": several lines`}},
		"build args":        {set: values{"build-args": "=" + secret + "\nA=1\nA=" + secret}, want: []string{"line 1: nothing before", `lines 2 and 3: "A" twice`}},
		"secrets":           {set: values{"secrets": "a=\nb", "secret-envs": "c=MISSING\nd=" + secret, "secret-files": "e="}, want: []string{`"a" is empty`, `"b" is empty`, "MISSING is not in", `"d": no name`, `"e": no path`}},
		"secret twice":      {set: values{"secrets": "a=" + secret, "secret-envs": "a=NPM_TOKEN", "secret-files": "a=x"}, want: []string{`"a" is also in "secrets"`, `"a" is also in "secrets"`}},
		"platform":          {set: values{"platforms": "windows/amd64"}, want: []string{`"windows/amd64": not a platform`}},
		"sandbox":           {set: values{"sandbox": "docker"}, want: []string{"auto, namespaces, in-place, chroot"}},
		"bare tags":         {set: values{"tags": "a\nb"}, want: []string{`"tags" is "a, b": a tag without a repository`}},
		"tags":              {set: values{"repository": "app", "tags": ".x\ngo/Up:1\napp:v1\na/b@sha256:0\na/b:" + strings.Repeat("x", 129)}, want: []string{`".x"`, `"go/Up:1"`, `"app:v1": no registry`, "a digest cannot", "xxx"}},
		"push without tag":  {set: values{"push": "true"}, want: []string{"no tag to push"}},
		"image":             {set: values{"image": "a:b:c", "service": "s"}, want: []string{`"image" is "a:b:c"`}},
		"cluster":           {set: values{"image": "x", "service": "s", "cluster": "a/b"}, want: []string{"neither the name nor the ARN of a cluster"}},
		"other cluster":     {set: values{"image": "x", "service": "arn:aws:ecs:eu-central-1:123456789012:service/a/s", "cluster": "b"}, want: []string{`in the cluster "a"`}},
		"service":           {set: values{"image": "x", "service": "prod/web/1"}, want: []string{"neither the name nor the ARN of a service"}},
		"service alone":     {set: values{"service": "web"}, want: []string{"nothing to deploy"}},
		"built, not pushed": {set: values{"service": "web", "target": "x", "labels": "a=b"}, want: []string{`there is "target", "labels" to build one`}},
		"push refused":      {set: values{"service": "web", "repository": "app", "push": "false"}, want: []string{"cannot be deployed"}},
		"image and build":   {set: values{"service": "web", "image": "x", "file": "y", "tags": "a/b:c"}, want: []string{`remove "file", "tags"`}},
		"image to nowhere":  {set: values{"image": "x"}, want: []string{"no task definition"}},
		"container nowhere": {set: values{"container-name": "x", "tags": "a/b:c"}, want: []string{`input "container-name" is "x": there is no task definition`}},
		"cluster alone":     {set: values{"cluster": "x"}, want: []string{"nothing would be deployed"}},
		"all at once":       {set: values{"push": "1", "wait-for-minutes": "0", "sandbox": "x"}, want: []string{"sandbox", "push", "wait-for-minutes"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := job()
			for _, variable := range test.unset {
				delete(env, variable)
			}
			_, err := Parse(test.set.get, env.get)
			got := problem.All("", err)
			for i, p := range got {
				if strings.Contains(p.Error(), secret) {
					t.Errorf("the secret shows: %s", p)
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

func TestWhatIsDone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set                               values
		builds, registers, deploys, onAWS bool
	}{
		"nothing":           {set: values{}, builds: true},
		"elsewhere":         {set: values{"tags": "ghcr.io/o/app:1", "registry-credentials": "ghcr.io=a:b"}, builds: true},
		"ECR":               {set: values{"repository": "app"}, builds: true, onAWS: true},
		"ECR by URI":        {set: values{"tags": "123456789012.dkr-ecr.eu-west-1.on.aws/app:1"}, builds: true, onAWS: true},
		"ECR as a mirror":   {set: values{"registry-mirrors": "docker.io=123456789012.dkr.ecr.eu-west-1.amazonaws.com/hub"}, builds: true, onAWS: true},
		"a role":            {set: values{"role-to-assume": "x"}, builds: true, onAWS: true},
		"all":               {set: values{"repository": "app", "service": "s"}, builds: true, registers: true, deploys: true, onAWS: true},
		"definition alone":  {set: values{"task-definition": "td.json"}, registers: true, onAWS: true},
		"definition, image": {set: values{"task-definition": "td.json", "repository": "app"}, builds: true, registers: true, onAWS: true},
		"an image":          {set: values{"service": "s", "image": "nginx"}, registers: true, deploys: true, onAWS: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(test.set.get, job().get)
			if err != nil {
				t.Fatal(err)
			}
			got := []bool{s.Builds(), s.Registers(), s.Deploys(), s.NeedsAWS()}
			want := []bool{test.builds, test.registers, test.deploys, test.onAWS}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("builds, registers, deploys, needs AWS (-got +want):\n%s", diff)
			}
		})
	}
}

func TestRegionIsFound(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set, env values
		want     string
	}{
		"input":      {values{"aws-region": "us-gov-west-1"}, values{"AWS_REGION": "eu-west-1"}, "us-gov-west-1"},
		"variable":   {values{}, values{"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"},
		"other":      {values{}, values{"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"},
		"repository": {values{"repository": "123456789012.dkr.ecr.ap-south-1.amazonaws.com/app", "tags": "x"}, nil, "ap-south-1"},
		"tag":        {values{"tags": "a/b:1,123456789012.dkr.ecr-fips.us-east-2.amazonaws.com/app:1"}, nil, "us-east-2"},
		"image":      {values{"image": "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu/app", "service": "s"}, nil, "eusc-de-east-1"},
		"service":    {values{"image": "x", "service": "arn:aws-cn:ecs:cn-north-1:123456789012:service/c/s"}, nil, "cn-north-1"},
		"none":       {values{"tags": "ghcr.io/a/b:1"}, nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(test.set.get, test.env.get)
			if err != nil || s.Credentials.AWSRegion != test.want {
				t.Errorf("got %q, %v, want %q", s.Credentials.AWSRegion, err, test.want)
			}
		})
	}
}

func TestECRRegion(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"123456789012.dkr.ecr.us-east-1.amazonaws.com":      "us-east-1",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn":  "cn-north-1",
		"123456789012.dkr-ecr-fips.us-gov-west-1.on.aws":    "us-gov-west-1",
		"12345678901.dkr.ecr.us-east-1.amazonaws.com":       "",
		"123456789012.dkr.ecr.us-east-1.amazonaws.com.evil": "",
		"123456789012.dkr.ecr.us-east-1.evil.com":           "",
		"a.123456789012.dkr.ecr.us-east-1.amazonaws.com":    "",
		"public.ecr.aws": "", "localhost:5000": "", "": "",
	}
	for host, want := range tests {
		if got := ECRRegion(host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := job()
	env["GITHUB_WORKSPACE"] = dir
	set := values{
		"aws-access-key-id": "AKID", "aws-secret-access-key": "key", "aws-session-token": "session",
		"registry-credentials": "ghcr.io=me:pass", "secrets": "a=one\nb=one", "secret-envs": "n=NPM_TOKEN", "secret-files": "f=f",
	}
	s, err := Parse(set.get, env.get)
	if err != nil {
		t.Fatal(err)
	}
	if err = s.ReadSecretFiles(); err != nil {
		t.Fatal(err)
	}
	want := []string{"AKID", "bWU6cGFzcw==", "from a file", "key", "npm-secret", "one", "pass", "session"}
	if diff := cmp.Diff(s.Secrets(), want); diff != "" {
		t.Errorf("secrets (-got +want):\n%s", diff)
	}
	if got := s.Registry.RegistryCredentials["ghcr.io"].String(); got != "me:***" {
		t.Errorf("got %q", got)
	}

	s.Build.SecretFiles = map[string]string{"x": filepath.Join(dir, "none"), "y": dir}
	err = s.ReadSecretFiles()
	if got := problem.All("", err); len(got) != 2 || !errors.Is(got[0], os.ErrNotExist) {
		t.Errorf("got %v, want two problems", err)
	}
}

// Mistakes elsewhere must not keep the secrets from being masked.
func TestSecretsDespiteMistakes(t *testing.T) {
	t.Parallel()
	set := values{"secrets": "a=one", "push": "maybe"}
	s, err := Parse(set.get, job().get)
	if err == nil || !cmp.Equal(s.Secrets(), []string{"one"}) {
		t.Errorf("got %q, %v", s.Secrets(), err)
	}
}

func TestMapHostPaths(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"/home/runner/work/r/r":          "/w",
		"/home/runner/work/r/r/x y/z":    "/w/x y/z",
		"/home/runner/work/r/rr":         "/home/runner/work/r/rr",
		"/home/runner/work/r/r.git/x":    "/home/runner/work/r/r.git/x",
		"/home/other/work/r/r":           "/home/other/work/r/r",
		"/mnt/_work/a-b/a-b/x":           "/w/x",
		"{\"a\":\"/_work/r/r/x\"}":       "{\"a\":\"/w/x\"}",
		"x=/__w/r/r\ny=/__w/r/r/z":       "x=/w\ny=/w/z",
		"https://h/home/runner/work/r/r": "https://h/home/runner/work/r/r",
		"a/home/runner/work/r/r":         "a/home/runner/work/r/r",
		"/my runner/_work/r/r":           "/my runner/_work/r/r",
		"/_work":                         "/_work", "/": "/", "": "",
		"type=oci,dest=/home/runner/work/_temp/x.tar": "type=oci,dest=/t/x.tar",
	}
	for value, want := range tests {
		if got := mapHostPaths(value, "/w", "/t"); got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
	if got := mapHostPaths("/__w/r/r", "", ""); got != "/__w/r/r" {
		t.Errorf("without a workspace: got %s", got)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		value  string
		commas bool
		want   []item
	}{
		"lines":            {"a\r\n\n b ,c\n", false, []item{{"a", 1}, {"b ,c", 3}}},
		"commas":           {"a, b\n,c,\n", true, []item{{"a", 1}, {"b", 1}, {"c", 2}}},
		"quoted":           {"x=1\n  \"a=1\n2,\"\"3\"\" \"  \r\nb", false, []item{{"x=1", 1}, {"a=1\n2,\"3\"", 2}, {"b", 4}}},
		"quoted, commas":   {`"a,b",c`, true, []item{{"a,b", 1}, {"c", 1}}},
		"quote inside":     {`a="b" c`, false, []item{{`a="b" c`, 1}}},
		"more after quote": {"\"a\"=b\nc", false, []item{{`"a"=b`, 1}, {"c", 2}}},
		"empty":            {"\n \n,", true, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := list(test.value, test.commas)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, test.want, cmp.AllowUnexported(item{})); diff != "" {
				t.Errorf("items (-got +want):\n%s", diff)
			}
		})
	}
}

// Whatever people write, Parse ends, and shows no secret in what it says.
func FuzzParse(f *testing.F) {
	f.Add("a=\"b\n\"c=d\"\n\"\"", "ghcr.io/a/b:c@d", "/home/runner/work/a/a")
	f.Add("\"", "::,,/", "arn:aws:ecs:::service//")
	f.Fuzz(func(t *testing.T, secrets, tags, path string) {
		set := values{"secrets": secrets, "registry-credentials": secrets, "tags": tags, "repository": tags, "image": tags, "service": path, "context": path, "labels": tags}
		before := maps.Clone(set)
		s, err := Parse(set.get, job().get)
		for _, p := range problem.All("", err) {
			if p.Input == "secrets" && p.Value != "" {
				t.Errorf("the value shows: %s", p)
			}
		}
		if s.Workspace != "/github/workspace" || !maps.Equal(set, before) {
			t.Error("changed")
		}
	})
}
