package rig;

import com.alibaba.nacos.core.code.ControllerMethodsCache;
import com.alibaba.nacos.sys.filter.NacosTypeExcludeFilter;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.servlet.ServletComponentScan;
import org.springframework.context.annotation.ComponentScan;
import org.springframework.context.annotation.FilterType;
import org.springframework.scheduling.annotation.EnableScheduling;

/** A Nacos 2 server: its main class and its console, in a module that nobody publishes, are made up for here. */
@SpringBootApplication
@ComponentScan(
        basePackages = {"com.alibaba.nacos", "rig"},
        excludeFilters = @ComponentScan.Filter(type = FilterType.CUSTOM, classes = NacosTypeExcludeFilter.class))
@ServletComponentScan("com.alibaba.nacos")
@EnableScheduling
public class NacosServer {
    private static final String[] PAGES = {
        "com.alibaba.nacos.core.controller",
        "com.alibaba.nacos.naming.controllers",
        "com.alibaba.nacos.config.server.controller",
        "com.alibaba.nacos.plugin.auth.impl.controller",
        "rig",
    };

    /** Nacos answers 501 to a page that is not in this cache. */
    @Autowired
    void know(ControllerMethodsCache pages) {
        for (String page : PAGES) {
            pages.initClassMethod(page);
        }
    }

    public static void main(String[] args) {
        SpringApplication.run(NacosServer.class, args);
    }
}
