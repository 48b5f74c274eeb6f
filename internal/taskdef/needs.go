package taskdef

import "slices"

// Needs are the things outside of a task definition without which its tasks do
// not start.
type Needs struct {
	// ExecutionRole and TaskRole are ARNs as they are written, or names; or empty.
	ExecutionRole, TaskRole string
	// Secrets are the values that ECS fetches before a task starts.
	Secrets []Secret
	// LogGroups are those of the awslogs driver that the tasks do not make
	// themselves.
	LogGroups []LogGroup
}

// Secret is a value of Secrets Manager or the Parameter Store.
type Secret struct {
	// From says where it lies: an ARN, or a parameter's name.
	From string
	// Path is where the definition names it: containerDefinitions[web].secrets[KEY].
	Path string
}

// LogGroup is a group of CloudWatch Logs.
type LogGroup struct {
	Name string
	// Region is empty where the definition names none.
	Region string
	// Path is where the definition names it.
	Path string
}

// Needs lists what the definition names.
func (d Document) Needs() Needs {
	n := Needs{ExecutionRole: d.root.get("executionRoleArn").str(), TaskRole: d.root.get("taskRoleArn").str()}
	for _, c := range d.root.get("containerDefinitions").items {
		at := "containerDefinitions[" + c.get("name").str() + "]"
		n.add(at+".secrets", c.get("secrets"))
		if from := c.get("repositoryCredentials").get("credentialsParameter").str(); from != "" {
			n.Secrets = append(n.Secrets, Secret{From: from, Path: at + ".repositoryCredentials.credentialsParameter"})
		}
		log := c.get("logConfiguration")
		n.add(at+".logConfiguration.secretOptions", log.get("secretOptions"))
		options := log.get("options")
		group := options.get("awslogs-group").str()
		if log.get("logDriver").str() != "awslogs" || group == "" || options.get("awslogs-create-group").str() == "true" {
			continue
		}
		n.LogGroups = append(n.LogGroups, LogGroup{
			Name: group, Region: options.get("awslogs-region").str(), Path: at + ".logConfiguration.options[awslogs-group]",
		})
	}
	return n
}

// add takes a list of names with where their values come from.
func (n *Needs) add(at string, list node) {
	for _, s := range list.items {
		if from := s.get("valueFrom").str(); from != "" {
			n.Secrets = append(n.Secrets, Secret{From: from, Path: at + "[" + s.get("name").str() + "]"})
		}
	}
}

// OperatingSystem is runtimePlatform's operatingSystemFamily as it is written
// ("LINUX", "WINDOWS_SERVER_2022_CORE"), or "" if the definition leaves it to
// ECS (LINUX).
func (d Document) OperatingSystem() string {
	return d.root.get("runtimePlatform").get("operatingSystemFamily").str()
}

// Requires says whether requiresCompatibilities lists a launch type: FARGATE, EC2.
func (d Document) Requires(launchType string) bool {
	return slices.ContainsFunc(d.root.get("requiresCompatibilities").items, func(n node) bool { return n.str() == launchType })
}
