package rig;

import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;

/** A service that registers itself in Eureka and greets over HTTP. */
@SpringBootApplication
@RestController
public class Greeter {
    private final String self;

    Greeter(@Value("${spring.application.name}") String name, @Value("${server.port}") int port) {
        self = name + ":" + port;
    }

    public static void main(String[] arguments) {
        SpringApplication.run(Greeter.class, arguments);
    }

    @GetMapping("/greet/{name}")
    String greet(@PathVariable("name") String name) {
        return "hello " + name + " from " + self;
    }
}
