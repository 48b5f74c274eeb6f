package rehearse

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/inputs"
)

// stepInputs are the inputs of the step that is rehearsed.
type stepInputs struct {
	values map[string]string
	job    emulator.Job
	cloud  *emulator.Cloud
}

func (in *stepInputs) setDefault(name, value string) {
	if strings.TrimSpace(in.values[name]) == "" {
		in.values[name] = value
	}
}

// stage is the emulated account with what the inputs name.
type stage struct{ cloud *emulator.Cloud }

// newStage makes an account in which the inputs would work: the role trusts the
// repository, the ECR repository, the cluster and the service exist.
func newStage(in *stepInputs, host, scratch, dir string) (*stage, error) {
	in.setDefault("aws-region", "eu-central-1")
	in.setDefault("role-to-assume", "arn:aws:iam::111122223333:role/towline-rehearsal")
	in.setDefault("repository", "rehearsal")
	in.setDefault("cluster", "rehearsal")
	in.setDefault("service", "web")
	in.job = emulator.Job{Repository: "octo-org/rehearsal", SHA: "4e5d1f7a90b3c2d8e6f1a0b9c8d7e6f5a4b3c2d1"}
	role := in.values["role-to-assume"]
	account := "111122223333"
	if parts := strings.Split(role, ":"); len(parts) == 6 {
		account = parts[4]
	}
	blobs := filepath.Join(scratch, "registry")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	cloud := emulator.New(emulator.Options{
		Region: in.values["aws-region"], Account: account, RegistryHost: host, Dir: blobs, Job: in.job,
	})
	in.cloud = cloud
	if key := in.values["aws-access-key-id"]; key != "" {
		cloud.AddUser(key, in.values["aws-secret-access-key"])
	}
	if _, err := cloud.AddRole(emulator.Role{
		Name: role[strings.LastIndexByte(role, '/')+1:], TrustPolicy: cloud.TrustGitHub(in.job.Subject()),
	}); err != nil {
		return nil, fmt.Errorf("role: %w", err)
	}
	repository := repositoryName(in.values["repository"])
	in.values["repository"] = repository
	uri := cloud.AddRepository(emulator.Repository{Name: repository})
	// Full references of ECR, of which the emulator is the only registry.
	for _, name := range []string{"tags"} {
		in.values[name] = localTags(in.values[name], uri)
	}
	cloud.AddLogGroup("/rehearsal")
	cluster := lastPart(in.values["cluster"])
	definition, err := definitionFor(in, dir, uri)
	if err != nil {
		return nil, err
	}
	if _, err := cloud.AddService(emulator.Service{
		Cluster: cluster, Name: lastPart(in.values["service"]), TaskDefinition: definition, DesiredCount: 2,
		CircuitBreaker: &emulator.CircuitBreaker{Enable: true, Rollback: true},
	}); err != nil {
		return nil, err
	}
	return &stage{cloud: cloud}, nil
}

// definitionFor is what the service runs before: the file that the inputs name,
// or a small one with the container that they name.
func definitionFor(in *stepInputs, dir, uri string) (string, error) {
	if file := in.values["task-definition"]; file != "" {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil {
			return string(data), nil
		}
	}
	doc, err := json.Marshal(map[string]any{
		"family": cmp.Or(lastPart(in.values["service"]), "web"), "networkMode": "awsvpc", "cpu": "256", "memory": "512",
		"requiresCompatibilities": []string{"FARGATE"},
		"containerDefinitions": []any{map[string]any{
			"name": cmp.Or(in.values["container-name"], "app"), "image": uri + ":previous", "essential": true,
			"portMappings":     []any{map[string]any{"containerPort": 8080}},
			"logConfiguration": map[string]any{"logDriver": "awslogs", "options": map[string]any{"awslogs-group": "/rehearsal", "awslogs-region": in.values["aws-region"], "awslogs-stream-prefix": "app"}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("task definition: %w", err)
	}
	return string(doc), nil
}

// repositoryName takes the registry's host off an ECR URI.
func repositoryName(repository string) string {
	host, name, ok := strings.Cut(strings.TrimPrefix(repository, "https://"), "/")
	if ok && inputs.ECRRegion(host) != "" {
		return name
	}
	return repository
}

// localTags puts full ECR references onto the emulated repository.
func localTags(tags, uri string) string {
	lines := strings.FieldsFunc(tags, func(r rune) bool { return r == '\n' || r == ',' })
	for i, line := range lines {
		line = strings.TrimSpace(line)
		host, _, _ := strings.Cut(line, "/")
		if inputs.ECRRegion(host) != "" {
			if colon := strings.LastIndexByte(line, ':'); colon > strings.LastIndexByte(line, '/') {
				line = uri + line[colon:]
			} else {
				line = uri
			}
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
