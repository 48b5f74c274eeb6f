package inputs

import (
	"encoding/json"
	"errors"
	"strings"
)

// words splits a command as a POSIX shell does, without expanding anything: a
// dollar sign is a dollar sign. A JSON list of strings is taken as it is.
func words(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "[") {
		var list []string
		if json.Unmarshal([]byte(text), &list) == nil {
			return list, nil
		}
		if json.Valid([]byte(text)) {
			return nil, errors.New("the JSON list holds something else than strings")
		}
	}
	s := splitter{text: text}
	for s.at < len(text) {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	s.end()
	return s.words, nil
}

// splitter walks over a command.
type splitter struct {
	text  string
	at    int
	word  strings.Builder
	begun bool // there is a word, if only an empty one in quotes
	words []string
}

func (s *splitter) end() {
	if s.begun {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.begun = false
}

func (s *splitter) add(bytes ...byte) {
	s.word.Write(bytes)
	s.begun = true
}

// next takes one character, or one part in quotes.
func (s *splitter) next() error {
	c := s.text[s.at]
	s.at++
	switch c {
	case ' ', '\t', '\r', '\n':
		s.end()
	case '\'':
		length := strings.IndexByte(s.text[s.at:], '\'')
		if length < 0 {
			return errors.New("a single quote is not closed")
		}
		s.add([]byte(s.text[s.at : s.at+length])...)
		s.at += length + 1
	case '"':
		return s.double()
	case '\\':
		return s.escape("")
	default:
		s.add(c)
	}
	return nil
}

// double takes what follows a double quote, in which a backslash is one unless
// it stands before one of $ ` " \ or a line's end.
func (s *splitter) double() error {
	s.begun = true
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch c {
		case '"':
			return nil
		case '\\':
			if err := s.escape("$`\"\\\n"); err != nil {
				return err
			}
		default:
			s.add(c)
		}
	}
	return errors.New("a double quote is not closed")
}

// escape takes what follows a backslash: one character as it is, if it is among
// special, or special is empty. A backslash joins two lines.
func (s *splitter) escape(special string) error {
	if s.at == len(s.text) {
		return errors.New("nothing after the last backslash")
	}
	c := s.text[s.at]
	s.at++
	switch {
	case c == '\n':
	case special == "" || strings.IndexByte(special, c) >= 0:
		s.add(c)
	default:
		s.add('\\', c)
	}
	return nil
}
