package rehearse

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/inputs"
	"github.com/towline/towline/internal/problem"
)

const (
	demoAccount = "111122223333"
	demoRegion  = "eu-central-1"
	demoSHA     = "4e5d1f7a90b3c2d8e6f1a0b9c8d7e6f5a4b3c2d1"
)

// stepInputs are the inputs of the step that is rehearsed.
type stepInputs struct {
	values map[string]string
	// env is the environment that the workflow gives to the step.
	env map[string]string
	// fromWorkflow says that the inputs are somebody's: only what is empty in
	// them is filled in.
	fromWorkflow bool
}

func (in *stepInputs) get(name string) string { return strings.TrimSpace(in.values[name]) }

// setDefault gives an input that is empty a value; of a workflow's inputs only
// those that stand there.
func (in *stepInputs) setDefault(name, value string) {
	if _, stands := in.values[name]; in.get(name) == "" && (stands || !in.fromWorkflow) {
		in.values[name] = value
	}
}

// setDefaults makes of nothing a deployment of everything.
func (in *stepInputs) setDefaults() {
	in.setDefault("repository", "rehearsal")
	in.setDefault("cluster", "rehearsal")
	in.setDefault("service", "web")
	account, _ := in.shown()
	if in.get("aws-access-key-id") == "" {
		in.setDefault("role-to-assume", "arn:aws:iam::"+cmp.Or(account, demoAccount)+":role/towline-rehearsal")
	}
}

// hosts are the registries that the image goes to or comes from.
func (in *stepInputs) hosts() []string {
	var hosts []string
	names := strings.FieldsFunc(in.values["tags"], func(r rune) bool { return r == '\n' || r == ',' })
	for _, name := range append(names, in.values["repository"], in.values["image"]) {
		host, _, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(name), "https://"), "/")
		if found && (strings.ContainsAny(host, ".:") || host == "localhost") && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// shown gives the account and the region that the inputs show, each empty if
// they do not.
func (in *stepInputs) shown() (account, region string) {
	for _, input := range []string{"role-to-assume", "service", "cluster"} {
		if parts := strings.Split(in.get(input), ":"); len(parts) == 6 && parts[0] == "arn" {
			account, region = cmp.Or(account, parts[4]), cmp.Or(region, parts[3])
		}
	}
	for _, host := range in.hosts() {
		if found := inputs.ECRRegion(host); found != "" {
			account, region = cmp.Or(account, host[:min(12, len(host))]), cmp.Or(region, found)
		}
	}
	return account, region
}

// newStage makes an account in which the inputs would work: the role trusts the
// repository, and the ECR repositories, the cluster and the service exist. dir
// is the workspace, scratch where the registry keeps its blobs.
func newStage(in *stepInputs, scratch, dir string) (*emulator.Cloud, error) {
	in.setDefaults()
	account, region := in.shown()
	account = cmp.Or(account, demoAccount)
	region = cmp.Or(in.get("aws-region"), in.env["AWS_REGION"], in.env["AWS_DEFAULT_REGION"], region)
	if region == "" {
		region = demoRegion
		in.values["aws-region"] = region
	}
	if err := in.oneAccount(account); err != nil {
		return nil, err
	}
	blobs := filepath.Join(scratch, "registry")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	cloud := emulator.New(emulator.Options{
		Region: region, Account: account, Dir: blobs,
		Job: emulator.Job{Repository: "octo-org/rehearsal", SHA: demoSHA},
	})
	if key := in.get("aws-access-key-id"); key != "" {
		cloud.AddUser(key, in.get("aws-secret-access-key"))
		delete(in.values, "aws-session-token") // keys of a user here
	}
	if err := in.addRole(cloud, account); err != nil {
		return nil, err
	}
	for _, name := range in.repositories() {
		cloud.AddRepository(emulator.Repository{Name: name})
	}
	if err := in.addImage(cloud, region); err != nil {
		return nil, err
	}
	return cloud, in.addService(cloud, dir, region)
}

// oneAccount refuses inputs that need more than the emulator has.
func (in *stepInputs) oneAccount(account string) error {
	refused := func(input string, err error) error {
		return &problem.Error{Op: "set the stage", Input: input, Value: in.get(input), Err: err, Fix: "Rehearse with one account of the partition aws."}
	}
	for _, input := range []string{"role-to-assume", "service", "cluster"} {
		parts := strings.Split(in.get(input), ":")
		if len(parts) != 6 || parts[0] != "arn" {
			continue
		}
		if parts[1] != "aws" {
			return refused(input, fmt.Errorf("the partition %s is not played", parts[1]))
		}
		if parts[4] != account {
			return refused(input, fmt.Errorf("it is of account %s, another input of account %s", parts[4], account))
		}
	}
	for _, host := range in.hosts() {
		if inputs.ECRRegion(host) != "" && !strings.HasPrefix(host, account) {
			return refused("repository", fmt.Errorf("the registry %s is of another account than %s", host, account))
		}
	}
	return nil
}

// addRole adds the role that is to be assumed, by ID token or by keys.
func (in *stepInputs) addRole(cloud *emulator.Cloud, account string) error {
	role := in.get("role-to-assume")
	if role == "" {
		return nil
	}
	audience := cmp.Or(in.get("audience"), "sts.amazonaws.com")
	cloud.AddProvider(emulator.Provider{URL: "https://token.actions.githubusercontent.com", Audiences: []string{audience}})
	trust, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{
			map[string]any{
				"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
				"Principal": map[string]any{"Federated": "arn:aws:iam::" + account + ":oidc-provider/token.actions.githubusercontent.com"},
				"Condition": map[string]any{
					"StringEquals": map[string]any{"token.actions.githubusercontent.com:aud": audience},
					"StringLike":   map[string]any{"token.actions.githubusercontent.com:sub": "repo:octo-org/rehearsal:*"}, //nolint:gosec // a name
				},
			},
			map[string]any{
				"Effect": "Allow", "Action": []string{"sts:AssumeRole", "sts:TagSession"}, "Principal": map[string]any{"AWS": "*"},
			},
		},
	})
	if err != nil {
		return fmt.Errorf("role: %w", err)
	}
	if _, name, found := strings.Cut(role, ":role/"); found {
		role = name
	}
	if _, err := cloud.AddRole(emulator.Role{Name: role, TrustPolicy: string(trust), MaxSession: 12 * time.Hour}); err != nil {
		return fmt.Errorf("role: %w", err)
	}
	return nil
}

// repositories are the names of the ECR repositories that the inputs name.
func (in *stepInputs) repositories() []string {
	var names []string
	add := func(reference string) {
		reference, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(reference), "https://"), "@")
		host, name, found := strings.Cut(reference, "/")
		if !found || inputs.ECRRegion(host) == "" {
			return
		}
		name, _, _ = strings.Cut(name, ":")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for tag := range strings.FieldsFuncSeq(in.values["tags"], func(r rune) bool { return r == '\n' || r == ',' }) {
		add(tag)
	}
	add(in.values["image"])
	repository := in.get("repository")
	add(repository)
	if host, _, _ := strings.Cut(repository, "/"); repository != "" && !strings.ContainsAny(host, ".:") {
		names = append(names, repository)
	}
	return names
}

// addService adds the service with what it runs before.
func (in *stepInputs) addService(cloud *emulator.Cloud, dir, region string) error {
	service := in.get("service")
	if service == "" {
		return nil
	}
	cluster := lastPart(in.get("cluster"))
	if parts := strings.Split(service, "/"); len(parts) == 3 {
		cluster = cmp.Or(cluster, parts[1])
	}
	running := emulator.Service{
		Cluster: cluster, Name: lastPart(service), DesiredCount: 2,
		CircuitBreaker: &emulator.CircuitBreaker{Enable: true, Rollback: true},
	}
	cloud.AddLogGroup("/rehearsal")
	if err := in.addNeeds(cloud); err != nil {
		return err
	}
	if file := in.get("task-definition"); file != "" {
		// A file that ECS would refuse is refused by the step, in better words.
		if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil && json.Valid(data) { //nolint:gosec // the user names the file
			if err := addNeeds(cloud, string(data)); err != nil {
				return err
			}
			running.TaskDefinition = string(data)
			if _, err := cloud.AddService(running); err == nil {
				return nil
			}
		}
	}
	definition, err := in.definition(region)
	if err != nil {
		return err
	}
	running.TaskDefinition = definition
	_, err = cloud.AddService(running)
	return err
}

// definition is a small task definition with the container that the inputs name.
func (in *stepInputs) definition(region string) (string, error) {
	doc, err := json.Marshal(map[string]any{
		"family": lastPart(in.get("service")), "networkMode": "awsvpc", "cpu": "256", "memory": "512",
		"requiresCompatibilities": []string{"FARGATE"},
		"containerDefinitions": []any{map[string]any{
			"name": cmp.Or(in.get("container-name"), "app"), "image": "public.ecr.aws/docker/library/httpd:2.4", "essential": true,
			"portMappings": []any{map[string]any{"containerPort": 8080}},
			"logConfiguration": map[string]any{"logDriver": "awslogs", "options": map[string]any{
				"awslogs-group": "/rehearsal", "awslogs-region": region, "awslogs-stream-prefix": "app",
			}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("task definition: %w", err)
	}
	return string(doc), nil
}

// otherRegistries are the hosts besides ECR to which the image would be pushed.
// They are played too: a rehearsal changes nothing anywhere.
func (in *stepInputs) otherRegistries() ([]string, error) {
	var others []string
	for _, host := range in.hosts() {
		switch {
		case inputs.ECRRegion(host) != "" || in.get("image") != "":
		case host == "docker.io" || host == "index.docker.io":
			return nil, dockerHub()
		default:
			others = append(others, host)
		}
	}
	for tag := range strings.FieldsFuncSeq(in.values["tags"], func(r rune) bool { return r == '\n' || r == ',' }) {
		if host, _, found := strings.Cut(strings.TrimSpace(tag), "/"); found && !strings.ContainsAny(host, ".:") && host != "localhost" {
			return nil, dockerHub() // USER/NAME
		}
	}
	return others, nil
}

func dockerHub() error {
	return &problem.Error{
		Op: "set the stage", Input: "tags",
		Err: errors.New("a rehearsal cannot play Docker Hub, from which base images come"),
		Fix: "Rehearse with a tag of another registry, such as an ECR repository's.",
	}
}

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
