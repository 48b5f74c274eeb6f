package inputs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/towline/towline/internal/rollout"
)

// Target is one of several services to update, and where it is.
type Target struct {
	// Cluster and Service are names or ARNs.
	Cluster, Service string
	// Container gets the image, and may be empty.
	Container string
	// Region is empty for that of the step. Roles are assumed one from the other,
	// the first from the step's own session; none: the step's own.
	Region string
	Roles  []string
}

// String is the target as people call it.
func (t Target) String() string {
	name := lastPart(t.Cluster) + "/" + lastPart(t.Service)
	if t.Region != "" {
		name += " in " + t.Region
	}
	return name
}

// All are the services to update: one, as Cluster and Service have it, unless
// there are several. Without a service it is one without a name, for what is
// registered only.
func (d Deployment) All() []Target {
	if len(d.Targets) > 0 {
		return d.Targets
	}
	return []Target{{Cluster: d.Cluster, Service: d.Service}}
}

// Several says whether more than one service is updated.
func (d Deployment) Several() bool { return len(d.Targets) > 1 }

func servicesDefinitions() []Definition {
	return []Definition{
		{
			Name: "targets", Group: groupDeployment,
			Description: "Services in other regions and accounts, in place of `service`: a YAML list with `service`, and perhaps `cluster`, `region`, `role` and `container`, in each entry. See docs/several-services.md.",
		},
		{
			Name: "max-parallel", Group: groupDeployment, Default: "10",
			Description: "How many services are deployed to side by side, 1 to 500.",
		},
		{
			Name: "waves", Group: groupDeployment,
			Description: "How many services have been begun when each wave is through, as numbers or percentages of all, with commas or lines between: `1, 10%, 100%`. The next wave waits until the one before is well. Default: one wave.",
		},
		{
			Name: "wave-bake-minutes", Group: groupDeployment, Default: "0",
			Description: "How long to wait between two waves, 0 to 1440 minutes. The services are looked at once more before the next wave begins.",
		},
	}
}

const (
	serviceForm = "Write [CLUSTER/]SERVICE[=CONTAINER], one a line, or the service's ARN."
	targetsForm = "Write a YAML list, each entry with service and perhaps cluster, region, role and container: \"- {region: eu-west-1, cluster: prod, service: web}\"."
)

// services reads which services there are, and in what order they are taken.
func (p *parser) services(s *Settings) {
	d := &s.Deployment
	items := p.list("service", false)
	if given := p.text("targets"); given != "" {
		if len(items) > 0 {
			p.failf("targets", "", "Put all services into one of them.", "there is also \"service\"")
		}
		p.targets(d, given)
	}
	for _, item := range items {
		target, known := parseService(item.text)
		if !known {
			p.failf("service", item.text, serviceForm, "neither the name nor the ARN of a service")
			continue
		}
		if target.Cluster == "" {
			target.Cluster = d.Cluster
		} else if len(items) == 1 {
			p.clusterOf(d, target.Cluster)
		}
		d.Targets = append(d.Targets, target)
	}
	p.distinctTargets(d)
	if len(d.Targets) > 0 {
		d.Cluster, d.Service = d.Targets[0].Cluster, d.Targets[0].Service
		if len(d.Targets) == 1 && p.values["targets"] == "" && d.Targets[0].Container == "" {
			d.Targets = nil // Cluster and Service say it all
		}
	}
	if i := slices.IndexFunc(d.Targets, func(t Target) bool { return t.Container != "" }); i >= 0 && p.given("container-name") {
		p.failf("container-name", p.values["container-name"], "Remove one of them.", "%s names its container, %s, too", d.Targets[i], d.Targets[i].Container)
	}
	d.MaxParallel = p.number("max-parallel", 1, 500)
	d.WaveBake = time.Duration(p.number("wave-bake-minutes", 0, 1440)) * time.Minute
	p.waves(d)
}

// parseService reads [CLUSTER/]SERVICE[=CONTAINER] or an ARN.
func parseService(text string) (t Target, known bool) {
	name, container, named := strings.Cut(text, "=")
	t.Service, t.Container = strings.TrimSpace(name), strings.TrimSpace(container)
	if named && !matches(containerPattern, t.Container) {
		return t, false
	}
	if strings.HasPrefix(t.Service, "arn:") {
		if !matches(arnPrefix+`service/([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+$`, t.Service) {
			return t, false
		}
		t.Region = arnRegion(t.Service)
		if parts := strings.Split(t.Service, "/"); len(parts) == 3 {
			t.Cluster = parts[1]
		}
		return t, true
	}
	if cluster, service, placed := strings.Cut(t.Service, "/"); placed {
		if !matches(containerPattern, cluster) {
			return t, false
		}
		t.Cluster, t.Service = cluster, service
	}
	return t, matches(containerPattern, t.Service)
}

// targets reads the YAML list.
func (p *parser) targets(d *Deployment, text string) {
	entries, err := yamlList(text)
	if err != nil {
		p.fail("targets", "", targetsForm, err)
		return
	}
	for i, entry := range entries {
		t, err := p.target(*d, entry)
		if err != nil {
			p.fail("targets", "", targetsForm, fmt.Errorf("entry %d: %w", i+1, err))
			continue
		}
		d.Targets = append(d.Targets, t)
	}
}

// yamlList reads a YAML list of objects.
func yamlList(text string) (entries []map[string]any, err error) {
	defer func() { // the parser is not ours, and texts are strangers'
		if fault := recover(); fault != nil {
			entries, err = nil, fmt.Errorf("the YAML cannot be read: %v", fault)
		}
	}()
	var root any
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
		return nil, fmt.Errorf("no YAML: %s", line)
	}
	list, isList := root.([]any)
	if !isList || len(list) == 0 {
		return nil, errors.New("not a list with an entry for each service")
	}
	for i, each := range list {
		entry, isObject := each.(map[string]any)
		if !isObject {
			return nil, fmt.Errorf("entry %d has no members", i+1)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// target reads one entry of the list.
func (p *parser) target(d Deployment, entry map[string]any) (Target, error) {
	var errs []error
	text := func(key string) string {
		value, is := entry[key].(string)
		if !is && entry[key] != nil {
			errs = append(errs, fmt.Errorf("%s is not a text", key))
		}
		return strings.TrimSpace(value)
	}
	known := []string{"region", "role", "cluster", "service", "container"}
	for key := range entry {
		if !slices.Contains(known, key) {
			errs = append(errs, fmt.Errorf("%q is none of %s", key, strings.Join(known, ", ")))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	t, valid := parseService(text("service"))
	switch {
	case t.Service == "" && len(errs) == 0:
		errs = append(errs, errors.New("no service"))
	case !valid && t.Service != "":
		errs = append(errs, fmt.Errorf("%q is neither the name nor the ARN of a service", t.Service))
	}
	region, cluster, container := text("region"), text("cluster"), text("container")
	if region != "" && !isRegion(region) {
		errs = append(errs, fmt.Errorf("%q is not a region", region))
	} else if region != "" && t.Region != "" && region != t.Region {
		errs = append(errs, fmt.Errorf("the service is in the region %s, not in %s", t.Region, region))
	}
	if cluster != "" && !matches(containerPattern, cluster) && !matches(arnPrefix+`cluster/[A-Za-z0-9_-]+$`, cluster) {
		errs = append(errs, fmt.Errorf("%q is neither the name nor the ARN of a cluster", cluster))
	} else if cluster != "" && t.Cluster != "" && lastPart(cluster) != t.Cluster {
		errs = append(errs, fmt.Errorf("the service is in the cluster %s, not in %s", t.Cluster, lastPart(cluster)))
	}
	if container != "" && !matches(containerPattern, container) {
		errs = append(errs, fmt.Errorf("%q is not the name of a container", container))
	}
	roles, err := targetRoles(entry["role"])
	errs = append(errs, err)
	t.Roles = roles
	t.Region = firstText(region, t.Region)
	t.Cluster = firstText(t.Cluster, cluster, d.Cluster)
	t.Container = firstText(t.Container, container)
	return t, errors.Join(errs...)
}

// targetRoles reads a role, or a list of them.
func targetRoles(value any) ([]string, error) {
	var roles []string
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		roles = strings.Fields(v)
	case []any:
		for _, each := range v {
			role, is := each.(string)
			if !is {
				return nil, errors.New("role is not a text or a list of them")
			}
			roles = append(roles, role)
		}
	default:
		return nil, errors.New("role is not a text or a list of them")
	}
	for _, role := range roles {
		if !matches(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`, role) && !matches(`^[\w+=,.@/-]+$`, role) {
			return nil, fmt.Errorf("%q is neither the ARN nor the name of a role", role)
		}
	}
	return roles, nil
}

func firstText(all ...string) string {
	for _, text := range all {
		if text != "" {
			return text
		}
	}
	return ""
}

// distinctTargets refuses a service that is there twice: its second deployment
// would take the place of the first.
func (p *parser) distinctTargets(d *Deployment) {
	input := "service"
	if p.values["targets"] != "" {
		input = "targets"
	}
	seen := map[string]bool{}
	for _, t := range d.Targets {
		key := fmt.Sprint(lastPart(t.Cluster), "/", lastPart(t.Service), " ", t.Region, " ", strings.Join(t.Roles, " "))
		if seen[key] {
			p.failf(input, t.String(), "Name each service once.", "there twice")
		}
		seen[key] = true
	}
}

// waves reads in what steps the services are gone over.
func (p *parser) waves(d *Deployment) {
	const form = "Write numbers of services or percentages of all, each more than the one before, such as 1, 10%, 100%."
	for _, item := range p.list("waves", true) {
		wave, err := rollout.ParseWave(item.text)
		if err != nil {
			p.fail("waves", "", form, err)
			continue
		}
		d.Waves = append(d.Waves, wave)
	}
	if err := rollout.Check(d.Waves); err != nil {
		p.fail("waves", "", form, err)
	}
	if d.WaveBake > 0 && p.values["waves"] == "" {
		p.failf("wave-bake-minutes", p.values["wave-bake-minutes"], "Set \"waves\", or remove it.", "there is only one wave, so there is nothing between")
	}
}

// checkSeveral refuses what does not go with several services.
func (p *parser) checkSeveral(d Deployment) {
	if len(d.Waves) > 0 && !d.WaitForServiceStability {
		p.failf("waves", p.values["waves"], "Set \"wait-for-service-stability\" to true, or remove \"waves\".", "the end of a wave is not seen if deployments are not waited for")
	}
	if !d.Several() {
		return
	}
	if names := p.givenAmong("codedeploy-application", "codedeploy-deployment-group"); names != "" {
		p.failf("service", "", "Remove "+names+": they are found for each service.", "there are several services, but also %s of one", names)
	}
}

// lastPart is the short form of an ARN.
func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
