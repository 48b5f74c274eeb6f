package rehearse

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/towline/towline/internal/emulator"
)

// What a task definition or the inputs name is on the stage.
func TestNeeds(t *testing.T) {
	t.Parallel()
	cloud := emulator.New(emulator.Options{Region: "eu-central-1"})
	cloud.AddUser("AKIAIOSFODNN7EXAMPLE", "secret")
	config := aws.Config{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
		HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
	}
	const arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-AbCdEf"
	if err := addNeeds(cloud, `{"containerDefinitions": [{"secrets": [{"name": "A", "valueFrom": "`+arn+`:key:BLUE:"},
		{"name": "B", "valueFrom": "arn:aws:ssm:eu-central-1:123456789012:parameter/prod/key"}]}]}`); err != nil {
		t.Fatal(err)
	}
	in := stepInputs{values: map[string]string{"container-secrets": "C=plain\n"}}
	if err := in.addNeeds(cloud); err != nil {
		t.Fatal(err)
	}
	secret, err := secretsmanager.NewFromConfig(config).DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String(arn)})
	if err != nil || aws.ToString(secret.Name) != "prod/db" {
		t.Errorf("secret: got %v, %v", secret, err)
	}
	found, err := ssm.NewFromConfig(config).DescribeParameters(t.Context(), &ssm.DescribeParametersInput{
		ParameterFilters: []ssmtypes.ParameterStringFilter{{Key: aws.String("Name"), Option: aws.String("Equals"), Values: []string{"/prod/key", "plain"}}},
	})
	if err != nil || len(found.Parameters) != 2 {
		t.Errorf("parameters: got %v, %v, want 2", found, err)
	}
}
