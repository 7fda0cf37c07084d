package rig;

import com.alibaba.nacos.api.exception.NacosException;
import com.alibaba.nacos.api.model.v2.Result;
import com.alibaba.nacos.auth.annotation.Secured;
import com.alibaba.nacos.common.model.RestResult;
import com.alibaba.nacos.common.model.RestResultUtils;
import com.alibaba.nacos.core.namespace.model.Namespace;
import com.alibaba.nacos.core.service.NamespaceOperationService;
import com.alibaba.nacos.plugin.auth.constant.ActionTypes;
import com.alibaba.nacos.plugin.auth.constant.SignType;
import com.alibaba.nacos.plugin.auth.exception.AccessException;
import com.alibaba.nacos.sys.module.ModuleState;
import com.alibaba.nacos.sys.module.ModuleStateHolder;
import org.springframework.core.Ordered;
import org.springframework.core.annotation.Order;
import org.springframework.http.HttpStatus;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.ControllerAdvice;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Stands in for the pages of Nacos 2's console module, which is in no package registry: namespaces and the server's
 * state. What they say comes from the server's own services; as in the original, reading them takes no token.
 */
@RestController
public class ConsolePages {
    private final NamespaceOperationService namespaces;

    public ConsolePages(NamespaceOperationService namespaces) {
        this.namespaces = namespaces;
    }

    @GetMapping("/v1/console/namespaces")
    public RestResult<List<Namespace>> list() {
        return RestResultUtils.success(namespaces.getNamespaceList());
    }

    @GetMapping("/v2/console/namespace/list")
    public Result<List<Namespace>> listV2() {
        return Result.success(namespaces.getNamespaceList());
    }

    @PostMapping("/v1/console/namespaces")
    @Secured(resource = "console/namespaces", action = ActionTypes.WRITE, signType = SignType.CONSOLE)
    public Boolean create(
            @RequestParam("customNamespaceId") String id,
            @RequestParam("namespaceName") String name,
            @RequestParam(value = "namespaceDesc", required = false) String description)
            throws NacosException {
        return namespaces.createNamespace(id, name, description);
    }

    @GetMapping("/v1/console/server/state")
    public Map<String, String> state() {
        Map<String, String> state = new HashMap<>();
        for (ModuleState module : ModuleStateHolder.getInstance().getAllModuleStates()) {
            module.getStates().forEach((key, value) -> state.put(key, value == null ? null : value.toString()));
        }
        return state;
    }

    /** Without it a wrong password is answered with the status 0. */
    @ControllerAdvice
    @Order(Ordered.HIGHEST_PRECEDENCE)
    static class Refusals {
        @ExceptionHandler(AccessException.class)
        ResponseEntity<String> refuse(AccessException refusal) {
            return ResponseEntity.status(HttpStatus.FORBIDDEN).body(refusal.getErrMsg());
        }
    }
}
