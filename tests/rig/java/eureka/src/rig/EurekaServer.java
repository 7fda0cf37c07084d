package rig;

import jakarta.servlet.Filter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.web.servlet.FilterRegistrationBean;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;
import org.springframework.context.annotation.Bean;
import org.springframework.core.Ordered;

/** A Eureka server. With -Drig.credentials=USER:PASSWORD it answers 401 to requests without them. */
@SpringBootApplication
@EnableEurekaServer
public class EurekaServer {
    public static void main(String[] arguments) {
        SpringApplication.run(EurekaServer.class, arguments);
    }

    // Spring Security would be as good, and make every start slower.
    @Bean
    @ConditionalOnProperty("rig.credentials")
    FilterRegistrationBean<Filter> basicAuthentication(@Value("${rig.credentials}") String credentials) {
        FilterRegistrationBean<Filter> registration = new FilterRegistrationBean<>(only(credentials));
        registration.setOrder(Ordered.HIGHEST_PRECEDENCE); // Eureka's pages are a filter too
        return registration;
    }

    private static Filter only(String credentials) {
        byte[] bytes = credentials.getBytes(StandardCharsets.UTF_8);
        String wanted = "Basic " + Base64.getEncoder().encodeToString(bytes);
        return (request, response, chain) -> {
            if (wanted.equals(((HttpServletRequest) request).getHeader("Authorization"))) {
                chain.doFilter(request, response);
            } else {
                HttpServletResponse refusal = (HttpServletResponse) response;
                refusal.setHeader("WWW-Authenticate", "Basic realm=\"eureka\"");
                refusal.sendError(HttpServletResponse.SC_UNAUTHORIZED);
            }
        };
    }
}
