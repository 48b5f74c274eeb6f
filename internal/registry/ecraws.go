package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

// ECR asks Amazon ECR with an AWS configuration. It implements ECRTokens.
type ECR struct {
	config aws.Config
}

// NewECR makes an ECR from config, whose region is the default one.
func NewECR(config aws.Config) *ECR { return &ECR{config: config} }

// Region implements ECRTokens.
func (e *ECR) Region() string { return e.config.Region }

func (e *ECR) client(region string) *ecr.Client {
	return ecr.NewFromConfig(e.config, func(o *ecr.Options) {
		if region != "" {
			o.Region = region
		}
	})
}

// Token implements ECRTokens; see
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html.
func (e *ECR) Token(ctx context.Context, region string) (Token, error) {
	out, err := e.client(region).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return Token{}, err
	}
	if len(out.AuthorizationData) == 0 {
		return Token{}, errors.New("ecr:GetAuthorizationToken answered without authorization data")
	}
	data := out.AuthorizationData[0]
	decoded, err := base64.StdEncoding.DecodeString(aws.ToString(data.AuthorizationToken))
	if err != nil {
		return Token{}, errors.New("ecr:GetAuthorizationToken answered with a token that is not base64")
	}
	user, password, ok := strings.Cut(string(decoded), ":")
	if !ok || password == "" {
		return Token{}, errors.New("ecr:GetAuthorizationToken answered with a token that is not user:password")
	}
	return Token{
		User:     user,
		Password: password,
		Endpoint: aws.ToString(data.ProxyEndpoint),
		Expires:  aws.ToTime(data.ExpiresAt),
	}, nil
}

// Repository implements ECRTokens; see
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html.
func (e *ECR) Repository(ctx context.Context, region, account, repository string) (Repository, error) {
	in := &ecr.DescribeRepositoriesInput{RepositoryNames: []string{repository}}
	if account != "" {
		in.RegistryId = aws.String(account)
	}
	out, err := e.client(region).DescribeRepositories(ctx, in)
	if err != nil {
		return Repository{}, err
	}
	if len(out.Repositories) == 0 {
		return Repository{}, errors.New("ecr:DescribeRepositories answered without the repository")
	}
	found := out.Repositories[0]
	r := Repository{URI: aws.ToString(found.RepositoryUri), TagMutability: string(found.ImageTagMutability)}
	for _, filter := range found.ImageTagMutabilityExclusionFilters {
		r.TagExclusions = append(r.TagExclusions, aws.ToString(filter.Filter))
	}
	return r, nil
}
