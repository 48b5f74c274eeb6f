package deploy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/goccy/go-yaml"
)

// errAppSpec is what is wrong with an AppSpec.
var errAppSpec = errors.New("not an AppSpec of an ECS service")

// CheckAppSpec says whether an AppSpec, JSON or YAML, has a place for the task
// definition.
// https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-resources.html
func CheckAppSpec(spec []byte) error {
	_, err := withTaskDefinition(spec, "arn")
	return err
}

// withTaskDefinition gives an AppSpec as JSON with only its task definition
// exchanged. Names are found in any case, as CodeDeploy's own tools do.
func withTaskDefinition(spec []byte, arn string) ([]byte, error) {
	document := bytes.TrimPrefix(bytes.TrimSpace(spec), []byte("\xef\xbb\xbf"))
	if !json.Valid(document) {
		converted, err := yaml.YAMLToJSON(document)
		if err != nil {
			return nil, fmt.Errorf("%w: neither JSON nor YAML: %w", errAppSpec, err)
		}
		document = bytes.TrimSpace(converted)
	}
	value, err := json.Marshal(arn)
	if err != nil {
		return nil, err
	}
	found := 0
	document, err = change(document, "Resources", func(resources json.RawMessage) (json.RawMessage, error) {
		var list []json.RawMessage
		if json.Unmarshal(resources, &list) != nil {
			return nil, fmt.Errorf("%w: Resources is no list", errAppSpec)
		}
		for i, entry := range list {
			if list[i], err = changeEach(entry, func(target json.RawMessage) (json.RawMessage, error) {
				return change(target, "Properties", func(properties json.RawMessage) (json.RawMessage, error) {
					found++
					return change(properties, "TaskDefinition", func(json.RawMessage) (json.RawMessage, error) { return value, nil })
				})
			}); err != nil {
				return nil, err
			}
		}
		return array(list), nil
	})
	switch {
	case err != nil:
		return nil, err
	case found != 1:
		return nil, fmt.Errorf("%w: it has %d resources, not one", errAppSpec, found)
	}
	var b bytes.Buffer
	err = json.Compact(&b, document)
	return b.Bytes(), err
}

// member is one member of a JSON object, in its place.
type member struct {
	name  string
	value json.RawMessage
}

func members(object json.RawMessage) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, fmt.Errorf("%w: %s is no object", errAppSpec, cut(string(object), 40))
	}
	var all []member
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		m := member{}
		m.name, _ = token.(string)
		if err := decoder.Decode(&m.value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func object(all []member) (json.RawMessage, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// array is what json.Marshal would give, but leaves the characters as they are.
func array(list []json.RawMessage) json.RawMessage {
	parts := make([][]byte, 0, len(list))
	for _, value := range list {
		parts = append(parts, value)
	}
	return slices.Concat([]byte{'['}, bytes.Join(parts, []byte{','}), []byte{']'})
}

// change exchanges one member of an object, which must be there.
func change(doc json.RawMessage, name string, by func(json.RawMessage) (json.RawMessage, error)) (json.RawMessage, error) {
	all, err := members(doc)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if strings.EqualFold(all[i].name, name) {
			if all[i].value, err = by(all[i].value); err != nil {
				return nil, err
			}
			return object(all)
		}
	}
	return nil, fmt.Errorf("%w: it has no %s", errAppSpec, name)
}

// changeEach exchanges every member of an object.
func changeEach(doc json.RawMessage, by func(json.RawMessage) (json.RawMessage, error)) (json.RawMessage, error) {
	all, err := members(doc)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].value, err = by(all[i].value); err != nil {
			return nil, err
		}
	}
	return object(all)
}

// appSpecOf makes an AppSpec from the service: what the console's wizard writes.
func appSpecOf(s *ecstypes.Service, arn string) ([]byte, error) {
	balancers := s.LoadBalancers
	for _, set := range s.TaskSets {
		if aws.ToString(set.Status) == "PRIMARY" && len(set.LoadBalancers) > 0 {
			balancers = set.LoadBalancers
		}
	}
	if len(balancers) == 0 {
		return nil, errors.New("the service has no load balancer whose traffic CodeDeploy could move")
	}
	type container struct {
		ContainerName string
		ContainerPort int32
	}
	type properties struct {
		TaskDefinition   string
		LoadBalancerInfo container
	}
	type target struct {
		Type       string
		Properties properties
	}
	return json.Marshal(map[string]any{
		"version": 0.0,
		"Resources": []map[string]target{{"TargetService": {Type: "AWS::ECS::Service", Properties: properties{
			TaskDefinition:   arn,
			LoadBalancerInfo: container{aws.ToString(balancers[0].ContainerName), aws.ToInt32(balancers[0].ContainerPort)},
		}}}},
	})
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
