package com.example.greeting;

import org.springframework.beans.factory.annotation.Value;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

@RestController
public class GreetingController {
    private final String greeting;

    public GreetingController(@Value("${greeting.text}") String greeting) {
        this.greeting = greeting;
    }

    @GetMapping("/")
    public Greeting greet(@RequestParam(defaultValue = "world") String name) {
        return new Greeting("%s, %s!".formatted(greeting, name), System.getProperty("user.name"));
    }

    @GetMapping("/health")
    public String health() {
        return "ok";
    }

    public record Greeting(String message, String user) {}
}
