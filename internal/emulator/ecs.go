package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ecsState is everything in ECS.
type ecsState struct {
	clusters map[string]*cluster
	// families holds each family's revisions, oldest first.
	families map[string][]*taskDefinition
	behave   func(TaskInfo) Behaviour
	hooks    func(HookInfo) HookEnd
	// alarms are the names of CloudWatch alarms that are in ALARM.
	alarms map[string]bool
	// tokens are the client tokens of RunTask.
	tokens map[string]answered
}

type cluster struct {
	name, arn string
	services  map[string]*service
	// runs hold the tasks of RunTask, oldest first.
	runs []*service
}

func newECSState() *ecsState {
	return &ecsState{
		clusters: map[string]*cluster{}, families: map[string][]*taskDefinition{}, alarms: map[string]bool{}, tokens: map[string]answered{},
	}
}

// catchUp brings every service's scheduler to now.
func (e *ecsState) catchUp(now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
		cl := e.clusters[name]
		for _, service := range slices.Sorted(maps.Keys(cl.services)) {
			cl.services[service].catchUp(now)
		}
		cl.catchUpRuns(now)
	}
}

// Service is an ECS service to start with.
type Service struct {
	// Cluster is the cluster's name; it is made when missing. Default: default.
	Cluster string
	// Name is the service's name.
	Name string
	// TaskDefinition is FAMILY, FAMILY:REVISION, an ARN, or a JSON document
	// that is registered.
	TaskDefinition string
	// DesiredCount is how many tasks run already when the service is added.
	DesiredCount int
	// CircuitBreaker is the deployment circuit breaker. Nil: disabled.
	CircuitBreaker *CircuitBreaker
	// MinimumHealthyPercent is the deployment's lower bound. Default: 100.
	MinimumHealthyPercent *int
	// MaximumPercent is the deployment's upper bound. Default: 200.
	MaximumPercent *int
	// DeploymentConfiguration is a JSON object laid over what the fields above
	// say: strategy, alarms, lifecycleHooks, ...
	DeploymentConfiguration string
	// NoRolloutState hides the rollout states of deployments, as ECS does behind
	// a Classic Load Balancer.
	NoRolloutState bool
	// Settings is a JSON object with further members of the service, as
	// DescribeServices shows them: networkConfiguration, loadBalancers,
	// deploymentController, status, or ones that nobody knows yet.
	Settings string
}

// CircuitBreaker is a service's deployment circuit breaker.
type CircuitBreaker struct {
	// Enable counts failing tasks and fails the deployment.
	Enable bool
	// Rollback goes back to the last deployment that completed.
	Rollback bool
}

// AddCluster adds an ECS cluster and gives its ARN.
func (c *Cloud) AddCluster(name string) (arn string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addCluster(name).arn
}

func (c *Cloud) addCluster(name string) *cluster {
	if cl := c.ecs.clusters[name]; cl != nil {
		return cl
	}
	cl := &cluster{name: name, arn: c.arn("ecs", "cluster/"+name), services: map[string]*service{}}
	c.ecs.clusters[name] = cl
	return cl
}

// AddService adds a service whose tasks run and whose deployment has
// completed, and gives its ARN. Its first tasks are well, whatever Behave says
// and wherever their image is.
func (c *Cloud) AddService(in Service) (arn string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var def *taskDefinition
	if strings.HasPrefix(strings.TrimSpace(in.TaskDefinition), "{") {
		def, err = c.register([]byte(in.TaskDefinition), c.arn("iam", "root"), time.Now())
	} else {
		def, err = c.findDefinition(in.TaskDefinition)
	}
	if err != nil {
		return "", fmt.Errorf("service %s: %w", in.Name, err)
	}
	settings := map[string]json.RawMessage{}
	if in.Settings != "" {
		if err = json.Unmarshal([]byte(in.Settings), &settings); err != nil {
			return "", fmt.Errorf("service %s: settings: %w", in.Name, err)
		}
	}
	if settings["deploymentConfiguration"], err = in.deploymentConfiguration(); err != nil {
		return "", err
	}
	cl := c.addCluster(cmp.Or(in.Cluster, "default"))
	s := newService(c, cl, in.Name, settings)
	s.noRollout = in.NoRolloutState
	cl.services[in.Name] = s
	s.populate(def, in.DesiredCount, time.Now())
	return s.arn, nil
}

func (in Service) deploymentConfiguration() (json.RawMessage, error) {
	breaker := cmp.Or(in.CircuitBreaker, &CircuitBreaker{})
	least, most := 100, 200
	if in.MinimumHealthyPercent != nil {
		least = *in.MinimumHealthyPercent
	}
	if in.MaximumPercent != nil {
		most = *in.MaximumPercent
	}
	configuration := map[string]any{
		"deploymentCircuitBreaker": map[string]any{"enable": breaker.Enable, "rollback": breaker.Rollback},
		"maximumPercent":           most, "minimumHealthyPercent": least, "strategy": "ROLLING", "bakeTimeInMinutes": 0,
	}
	if in.DeploymentConfiguration != "" {
		if err := json.Unmarshal([]byte(in.DeploymentConfiguration), &configuration); err != nil {
			return nil, fmt.Errorf("service %s: deployment configuration: %w", in.Name, err)
		}
	}
	raw, err := json.Marshal(configuration)
	if err != nil {
		return nil, err
	}
	return raw, strategyOf(raw, nil)
}

// Behave decides what each new task does. f is called once per task, must not
// call the cloud, and gives the same answers for the same tasks if a test is
// to repeat. Nil, or the zero Behaviour, is a task that starts and stays well.
func (c *Cloud) Behave(f func(TaskInfo) Behaviour) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ecs.behave = f
}

func (c *Cloud) ecsOperations() map[string]operation {
	serviceOf := func(q *request) string {
		name := q.member("service")
		if name == "" {
			var in struct{ Services []string }
			if json.Unmarshal(q.body, &in) == nil && len(in.Services) > 0 {
				name = in.Services[0]
			}
		}
		return c.arn("ecs", "service/"+lastSegment(cmp.Or(q.member("cluster"), "default"))+"/"+lastSegment(name))
	}
	firstOf := func(member string) func(*request) string {
		return func(q *request) string {
			var in map[string]any
			if json.Unmarshal(q.body, &in) != nil {
				return "*"
			}
			switch v := in[member].(type) {
			case string:
				return v
			case []any:
				if len(v) > 0 {
					return fmt.Sprint(v[0])
				}
			}
			return "*"
		}
	}
	family := func(q *request) string {
		return c.arn("ecs", "task-definition/"+q.member("family")+":*")
	}
	operations := map[string]operation{
		"DescribeClusters":           {serve: c.describeClusters},
		"ListClusters":               {serve: c.listClusters},
		"RunTask":                    {resource: c.definitionOf, serve: c.runTask},
		"StopTask":                   {resource: firstOf("task"), serve: c.stopTask},
		"ListServices":               {serve: c.listServices},
		"DescribeServices":           {resource: serviceOf, serve: c.describeServices},
		"UpdateService":              {resource: serviceOf, serve: c.updateService},
		"DescribeTaskDefinition":     {serve: c.describeTaskDefinition},
		"RegisterTaskDefinition":     {resource: family, serve: c.registerTaskDefinition},
		"DeregisterTaskDefinition":   {serve: c.deregisterTaskDefinition},
		"ListTaskDefinitions":        {serve: c.listTaskDefinitions},
		"ListServiceDeployments":     {resource: serviceOf, serve: c.listServiceDeployments},
		"DescribeServiceDeployments": {resource: firstOf("serviceDeploymentArns"), serve: c.describeServiceDeployments},
		"DescribeServiceRevisions":   {resource: firstOf("serviceRevisionArns"), serve: c.describeServiceRevisions},
		"StopServiceDeployment":      {resource: firstOf("serviceDeploymentArn"), serve: c.stopServiceDeployment},
		"ContinueServiceDeployment":  {resource: firstOf("serviceDeploymentArn"), serve: c.continueServiceDeployment},
		"ListTasks":                  {serve: c.listTasks},
		"DescribeTasks":              {resource: firstOf("tasks"), serve: c.describeTasks},
	}
	maps.Copy(operations, c.instanceOperations())
	return operations
}

func lastSegment(s string) string { return s[strings.LastIndex(s, "/")+1:] }

// cluster finds the one that a request names.
func (c *Cloud) cluster(q *request) (*cluster, error) {
	c.ecs.catchUp(q.now)
	cl := c.ecs.clusters[lastSegment(cmp.Or(q.member("cluster"), "default"))]
	if cl == nil {
		return nil, refuse("ClusterNotFoundException", "Cluster not found.")
	}
	return cl, nil
}

// service finds the one that a request names.
func (c *Cloud) service(q *request) (*service, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	s := cl.services[lastSegment(q.member("service"))]
	if s == nil {
		return nil, refuse("ServiceNotFoundException", "Service not found.")
	}
	return s, nil
}

func missing(arn string) map[string]any { return map[string]any{"arn": arn, "reason": "MISSING"} }

func (c *Cloud) describeClusters(q *request) (any, error) {
	c.ecs.catchUp(q.now)
	var in struct{ Clusters []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if len(in.Clusters) == 0 {
		in.Clusters = []string{"default"}
	}
	found, failures := []any{}, []any{}
	for _, name := range in.Clusters {
		cl := c.ecs.clusters[lastSegment(name)]
		if cl == nil {
			failures = append(failures, missing(c.arn("ecs", "cluster/"+lastSegment(name))))
			continue
		}
		running, pending := 0, 0
		for _, s := range cl.services {
			r, p := s.count(nil)
			running, pending = running+r, pending+p
		}
		found = append(found, map[string]any{
			"clusterArn": cl.arn, "clusterName": cl.name, "status": "ACTIVE",
			"registeredContainerInstancesCount": 0, "runningTasksCount": running, "pendingTasksCount": pending,
			"activeServicesCount": len(cl.services), "statistics": []any{}, "tags": []any{}, "settings": []any{},
			"capacityProviders": []any{"FARGATE", "FARGATE_SPOT"}, "defaultCapacityProviderStrategy": []any{},
		})
	}
	return map[string]any{"clusters": found, "failures": failures}, nil
}

func (c *Cloud) listServices(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	arns := []string{}
	for _, name := range slices.Sorted(maps.Keys(cl.services)) {
		arns = append(arns, cl.services[name].arn)
	}
	return map[string]any{"serviceArns": arns}, nil
}

func (c *Cloud) describeServices(q *request) (any, error) {
	cl, err := c.cluster(q)
	if err != nil {
		return nil, err
	}
	var in struct{ Services []string }
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if n := len(in.Services); n == 0 {
		return nil, refuse("InvalidParameterException", "Services cannot be empty.")
	} else if n > 10 {
		return nil, refuse("InvalidParameterException", "Services cannot have more than 10 elements.")
	}
	found, failures := []any{}, []any{}
	for _, name := range in.Services {
		if s := cl.services[lastSegment(name)]; s != nil {
			found = append(found, s.json())
		} else {
			failures = append(failures, missing(c.arn("ecs", "service/"+cl.name+"/"+lastSegment(name))))
		}
	}
	return map[string]any{"services": found, "failures": failures}, nil
}
